// Makes assets/sdk/academy-rt.js, the file that the server carries, of the modules in assets/sdk/src: `npm run bundle`.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { rollup } from 'rollup';

export const sdk = join(dirname(fileURLToPath(import.meta.url)), '../../assets/sdk');
const first = '// Made of the modules in assets/sdk/src by `npm run bundle` in tests/sdk: change these, and run it again.';

/** The bundle as text: the same for the same modules, on every machine. */
export async function bundled() {
  const [header] = /^(\/\/.*\n)+/.exec(readFileSync(join(sdk, 'src/index.js'), 'utf8'));
  const fitted = (code) => code
    // The page's author reads first what the client is.
    .replace(header, '')
    // Types from another file are of no use in one file.
    .replace(/^\/\*\*(\n \*)? @import (?:(?!\*\/)[^])*\*\/\n+/gm, '');
  const bundle = await rollup({
    input: join(sdk, 'src/index.js'),
    onwarn: (warning) => { throw new Error(warning.message); },
    plugins: [{ name: 'one-file', transform: (code) => ({ code: fitted(code), map: null }) }],
  });
  const { output } = await bundle.generate({ format: 'es', banner: `${first}\n${header}` });
  await bundle.close();
  if (output.length !== 1) throw new Error(`the bundle is ${output.length} files, and not one`);
  return output[0].code;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) writeFileSync(join(sdk, 'academy-rt.js'), await bundled());
