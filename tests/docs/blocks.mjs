// The fenced blocks of a page of docs/, by the name that their attributes give them: ```nginx {deploy=nginx}.
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binary } from '../clients/harness.mjs';

const here = dirname(fileURLToPath(import.meta.url));
export const docs = join(here, '../../docs');

/** The fenced blocks of a page: { at, language, attributes, text }, and what is no such block. */
export function blocksIn(name, page) {
  const blocks = [];
  const wrong = [];
  let open;
  page.split('\n').forEach((line, index) => {
    const at = `${name}:${index + 1}`;
    const fence = /^\s*(```+)(.*)$/.exec(line);
    if (open && fence && fence[1].length >= open.fence.length && fence[2].trim() === '') {
      blocks.push({ ...open, text: open.lines.map((one) => `${one}\n`).join('') });
      open = undefined;
    } else if (open) {
      open.lines.push(line);
    } else if (fence) {
      const info = /^(\w*)(?: \{([^{}]*)\})?$/.exec(fence[2].trim());
      if (!info) wrong.push(`${at}: '${line.trim()}' is not LANGUAGE {ATTRIBUTES}`);
      open = { at, fence: fence[1], language: info?.[1] ?? '', attributes: info?.[2]?.split(/\s+/).filter(Boolean) ?? [], lines: [] };
    }
  });
  if (open) wrong.push(`${open.at}: the block has no end`);
  return { blocks, wrong };
}

/** The block of a page that has the attribute, for example `block('deploy.md', 'deploy=nginx')`. */
export function block(page, attribute) {
  const { blocks } = blocksIn(page, readFileSync(join(docs, page), 'utf8'));
  const found = blocks.filter(({ attributes }) => attributes.includes(attribute));
  if (found.length !== 1) throw new Error(`docs/${page} has ${found.length} blocks {${attribute}}, and not one`);
  return found[0].text;
}

/** Replaces each text that a page has by what a test needs in its place; a text that is not there is an error. */
export function fitted(text, replacements) {
  return Object.entries(replacements).reduce((fitting, [from, to]) => {
    if (!fitting.includes(from)) throw new Error(`'${from}' is not in the block:\n${text}`);
    return fitting.replaceAll(from, to);
  }, text);
}

/** A directory to work in, and the path on which its commands find the tested program as academy-rt. */
export function scratch(name, { hasPackages = true } = {}) {
  const dir = mkdtempSync(join(tmpdir(), `academy-rt-${name}-`));
  const bin = join(dir, 'bin');
  mkdirSync(bin);
  symlinkSync(binary, join(bin, 'academy-rt'));
  if (hasPackages) symlinkSync(join(here, 'node_modules'), join(dir, 'node_modules'));
  return { dir, path: `${bin}${delimiter}${process.env.PATH}` };
}
