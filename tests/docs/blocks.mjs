// The fenced blocks of a page of docs/, by the name that their attributes give them: ```nginx {deploy=nginx}.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const docs = join(dirname(fileURLToPath(import.meta.url)), '../../docs');

/** The block of a page that has the attribute, for example `block('deploy.md', 'deploy=nginx')`. */
export function block(page, attribute) {
  const found = [];
  for (const [, info, text] of readFileSync(join(docs, page), 'utf8').matchAll(/^```(\S.*)\n([\s\S]*?)^```$/gm)) {
    const attributes = /\{(.*)\}/.exec(info)?.[1].split(/\s+/) ?? [];
    if (attributes.includes(attribute)) found.push(text);
  }
  if (found.length !== 1) throw new Error(`docs/${page} has ${found.length} blocks {${attribute}}, and not one`);
  return found[0];
}

/** Replaces each text that a page has by what a test needs in its place; a text that is not there is an error. */
export function fitted(text, replacements) {
  return Object.entries(replacements).reduce((fitting, [from, to]) => {
    if (!fitting.includes(from)) throw new Error(`'${from}' is not in the block:\n${text}`);
    return fitting.replaceAll(from, to);
  }, text);
}
