// TypeScript over the files of the repository and over texts that stand in for files, without a file being written.
import { readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** The npm packages, as they are once installed: beside the modules of the server. */
const packaged = {
  'academy-rt-client': [join(root, 'assets/sdk/npm/client/index.d.ts')],
  'academy-rt-client/*': [join(root, 'assets/sdk/npm/client/*.d.ts')],
  react: [join(root, 'tests/sdk/node_modules/@types/react')],
};

export const options = {
  noEmit: true,
  allowJs: true,
  checkJs: true,
  strict: true,
  // The SDK's own types are checked as well, and not only used.
  skipLibCheck: false,
  skipDefaultLibCheck: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  // Pages load the SDK from their server. Packages are those of this directory, wherever the importing text claims to be.
  paths: { 'https://rt.example.org/sdk/*': [join(root, 'assets/sdk/*')], ...packaged, 'socket.io-client': [join(root, 'tests/sdk/node_modules/socket.io-client')] },
  // A package has both in one directory.
  rootDirs: [join(root, 'assets/sdk'), join(root, 'assets/sdk/npm/client')],
  typeRoots: [join(root, 'tests/sdk/node_modules/@types')],
};
const forPages = { lib: ['lib.es2022.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'], types: [] };
const forNode = { lib: ['lib.es2022.d.ts'], types: ['node'] };

const libraries = new Map();

/**
 * A program of files, by their path in the repository. `texts` says what a file has in place of what is on disk; a path that is not
 * there becomes a file.
 */
export function program(files, { texts = {}, isNode = false, isLenient = false } = {}) {
  // A page that shows a few lines does not annotate their parameters.
  const settings = { ...options, ...(isNode ? forNode : forPages), ...(isLenient ? { noImplicitAny: false, useUnknownInCatchVariables: false } : {}) };
  const host = ts.createCompilerHost(settings);
  const replaced = new Map(Object.entries(texts).map(([path, text]) => [join(root, path), text]));
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (path) => replaced.has(resolve(path)) || fileExists(path);
  host.readFile = (path) => replaced.get(resolve(path)) ?? readFile(path);
  host.getSourceFile = (path, ...rest) => {
    const text = replaced.get(resolve(path));
    if (text !== undefined) return ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true);
    if (!path.includes('node_modules')) return getSourceFile(path, ...rest);
    if (!libraries.has(path)) libraries.set(path, getSourceFile(path, ...rest));
    return libraries.get(path);
  };
  return ts.createProgram(files.map((path) => join(root, path)), settings, host);
}

/** What TypeScript has to say of a program: a line for each error. */
export function errorsOf(checked) {
  return ts.getPreEmitDiagnostics(checked).map(({ file, start, messageText }) => {
    const where = file ? `${relative(root, file.fileName)}:${file.getLineAndCharacterOfPosition(start).line + 1}: ` : '';
    return where + ts.flattenDiagnosticMessageText(messageText, '\n');
  });
}

/** The names of the properties of an exported type, by the path of the file and the name of the type. */
export function membersOf(path, name) {
  const checked = program([path]);
  const checker = checked.getTypeChecker();
  const module = checker.getSymbolAtLocation(checked.getSourceFile(join(root, path)));
  const symbol = checker.getExportsOfModule(module).find((one) => one.name === name);
  if (!symbol) throw new Error(`${path} exports no ${name}`);
  return checker.getDeclaredTypeOfSymbol(symbol).getProperties().map((one) => one.name);
}

/** The words of an exported union of words, in order. */
export function wordsOf(path, name) {
  const checked = program([path]);
  const checker = checked.getTypeChecker();
  const symbol = checker.getExportsOfModule(checker.getSymbolAtLocation(checked.getSourceFile(join(root, path)))).find((one) => one.name === name);
  if (!symbol) throw new Error(`${path} exports no ${name}`);
  return checker.getDeclaredTypeOfSymbol(symbol).types.map(({ value }) => value).sort();
}

export const textOf = (path) => readFileSync(join(root, path), 'utf8');

/** The text of a file with each of some texts replaced; one that is not there is an error. */
export function edited(path, from, to) {
  const text = textOf(path);
  if (!text.includes(from)) throw new Error(`'${from}' is not in ${path}`);
  return text.replaceAll(from, to);
}
