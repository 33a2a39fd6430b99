// Builds dist: index.html and, compressed, app.js, app.css, worker.js and LICENSES.txt. Everything the page loads is
// one of these, fonts and icons included, under /explorer/. The same sources give the same bytes.
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import wawoff2 from 'wawoff2';
import { licenses } from './licenses.mjs';

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, 'dist');
const source = (name) => join(root, 'src', name);

// What is left out of, or put into, the packages; each of these must still be found in them.
const applied = new Set();
const trim = {
  name: 'trim',
  setup({ onResolve, onLoad }) {
    // Monaco with the features of src/monaco.js only, for everyone who asks for it.
    onResolve({ filter: /(^monaco-graphql\/esm|^\.)\/monaco-editor(\.js)?$/ }, ({ importer, path }) => {
      if (path.startsWith('.') && !/[\\/]monaco-graphql[\\/]esm[\\/]/.test(importer)) return;
      applied.add('monaco');
      return { path: source('monaco.js') };
    });
    // The editors that compare two texts: part of Monaco's interface, used by nobody here.
    onLoad({ filter: /[\\/](diffEditorWidget|multiDiffEditorWidget)\.js$/ }, ({ path }) => {
      const name = /multi/.test(path) ? 'MultiDiffEditorWidget' : 'DiffEditorWidget';
      applied.add(name);
      return { contents: `export class ${name} {}`, loader: 'js' };
    });
    // JSON is formatted without prettier and Babel.
    onLoad({ filter: /@graphiql[\\/]react[\\/]dist[\\/]utility[\\/]jsonc\.js$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      const contents = text.replace(/async function formatJSONC\([\s\S]*?\n}\n/, () => {
        applied.add('jsonc');
        return `import { formatJSONC } from ${JSON.stringify(source('jsonc.js'))};\n`;
      });
      return { contents, loader: 'js' };
    });
    // One and the same plugin under its old name (and as CommonJS).
    onResolve({ filter: /^prettier\/parser-graphql$/ }, () => {
      applied.add('parser-graphql');
      return { path: join(root, 'node_modules/prettier/plugins/graphql.mjs') };
    });
    // The icon font, compressed.
    onLoad({ filter: /[\\/]codicon\.css$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      const contents = text.replace(/url\(\.\/codicon\.ttf\) format\("truetype"\)/, () => {
        applied.add('codicon');
        return 'url(./codicon.woff2) format("woff2")';
      });
      return { contents, loader: 'css' };
    });
    onResolve({ filter: /[\\/]codicon\.woff2$/ }, ({ path, resolveDir }) => ({ path: join(resolveDir, path), namespace: 'woff2' }));
    onLoad({ filter: /./, namespace: 'woff2' }, async ({ path }) => ({
      contents: await wawoff2.compress(await readFile(path.replace(/woff2$/, 'ttf'))),
      loader: 'dataurl',
    }));
    // One script: what a package would load later is imported at once. (Left as it is, the bundler
    // would wrap every module of Monaco in a function of its own.)
    onLoad({ filter: /[\\/](@graphiql|monaco-graphql|monaco-editor)[\\/].*\.js$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      const modules = [];
      const contents = text.replace(/\bimport\((['"][^'"]+['"])\)/g, (_, name) => `Promise.resolve(__module${modules.push(name) - 1})`);
      if (!modules.length) return;
      applied.add('import()');
      return { contents: modules.map((name, i) => `import * as __module${i} from ${name};\n`).join('') + contents, loader: 'js' };
    });
  },
};

const trimWorker = {
  name: 'trim-worker',
  setup({ onResolve, onLoad }) {
    // The page formats operations itself; the worker is not asked to.
    onResolve({ filter: /^prettier\// }, () => ({ path: 'nothing', namespace: 'empty' }));
    onLoad({ filter: /./, namespace: 'empty' }, () => ({ contents: 'export {}', loader: 'js' }));
  },
};

const common = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  target: 'es2022',
  charset: 'utf8',
  legalComments: 'none',
  logLevel: 'warning',
  outdir: 'dist',
  loader: { '.woff2': 'dataurl', '.ttf': 'dataurl' },
};
const constants = { 'process.env.NODE_ENV': '"production"' };
const hash = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 8);
const contents = ({ outputFiles }, name) => {
  const file = outputFiles.find(({ path }) => path.endsWith(name));
  if (!file) throw new Error(`the build has made no ${name}`);
  return Buffer.from(file.contents);
};

const worker = await build({
  ...common,
  entryPoints: { worker: source('worker.js') },
  format: 'iife',
  define: constants,
  plugins: [trimWorker],
});
const files = { 'worker.js': contents(worker, 'worker.js') };

const app = await build({
  ...common,
  entryPoints: { app: source('main.jsx') },
  format: 'esm',
  jsx: 'automatic',
  define: { ...constants, WORKER_URL: JSON.stringify(`/explorer/worker.js?v=${hash(files['worker.js'])}`) },
  plugins: [trim],
});
files['app.js'] = contents(app, 'app.js');
files['app.css'] = contents(app, 'app.css');
for (const needed of ['monaco', 'DiffEditorWidget', 'MultiDiffEditorWidget', 'jsonc', 'parser-graphql', 'codicon', 'import()']) {
  if (!applied.has(needed)) throw new Error(`trim: there was nothing to replace for ${needed}`);
}

const page = await readFile(join(root, 'index.html'), 'utf8');
files['index.html'] = page.replace(/%(app\.\w+)%/g, (_, name) => hash(files[name]));
files['LICENSES.txt'] = await licenses(root, [worker.metafile, app.metafile]);

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });
// The page itself as it is, the rest compressed: the server sends it so, and it is half of the binary otherwise.
for (const [name, bytes] of Object.entries(files)) {
  if (name === 'index.html') await writeFile(join(dist, name), bytes);
  else await writeFile(join(dist, `${name}.gz`), gzipSync(bytes, { level: 9 }));
}
if (process.env.METAFILE) await writeFile(process.env.METAFILE, JSON.stringify({ worker: worker.metafile, app: app.metafile }));
console.log(Object.entries(files).map(([name, bytes]) => `${name} ${bytes.length}`).sort().join('\n'));
