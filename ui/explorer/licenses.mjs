// The packages that are really in the built files, and their licences.
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

// Code and fonts of others inside monaco-editor, which has no package of its own for them.
const within = [
  {
    files: /monaco-editor\/.*codicon\.(ttf|woff2|css)$/,
    title: 'Codicons, the icon font of monaco-editor (converted to WOFF2)',
    license: 'CC-BY-4.0',
    text: 'Copyright (c) Microsoft Corporation. https://github.com/microsoft/vscode-codicons\nLicensed under the Creative Commons Attribution 4.0 International licence: https://creativecommons.org/licenses/by/4.0/legalcode',
  },
  {
    files: /monaco-editor\/.*\/dompurify\.js$/,
    title: 'DOMPurify, within monaco-editor',
    license: 'MPL-2.0 OR Apache-2.0, used here under Apache-2.0',
    text: '(c) Cure53 and other contributors. https://github.com/cure53/DOMPurify\nhttps://www.apache.org/licenses/LICENSE-2.0',
  },
  {
    files: /monaco-editor\/.*\/marked\.js$/,
    title: 'marked, within monaco-editor',
    license: 'MIT',
    notice: 'markedjs NOTICES',
  },
  {
    files: /monaco-editor\/.*\/base\/common\/path\.js$/,
    title: 'path of Node.js, within monaco-editor',
    license: 'MIT',
    notice: 'nodejs path library',
  },
  {
    files: /monaco-editor\/.*\/language\/json\/(json\.worker|jsonMode)\.js$/,
    title: 'vscode-json-languageservice, vscode-languageserver-types, vscode-uri and jsonc-parser, within monaco-editor',
    license: 'MIT',
    text: 'Copyright (c) Microsoft Corporation. Their licence is that of monaco-editor, below.',
  },
];

// Packages that say their licence in package.json but have no file of it.
const mit = (holder) => `MIT License

Copyright (c) ${holder}

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.`;
const withoutFile = [
  [/^(graphiql|@graphiql\/.*|graphql-language-service|monaco-graphql)$/, 'GraphQL Contributors'],
  [/^@radix-ui\//, 'WorkOS'],
  [/^react-compiler-runtime$/, 'Meta Platforms, Inc. and affiliates.'],
];

const tidy = (text) => text.replace(/\r\n?/g, '\n').replace(/[ \t]+$/gm, '').replace(/^\n+|\n+$/g, '');

export async function licenses(root, metafiles) {
  const used = new Set();
  for (const { outputs } of metafiles) {
    for (const { inputs } of Object.values(outputs)) {
      for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
        if (bytesInOutput > 0) used.add(path.replaceAll('\\', '/').replace(/^[^/]*:/, '').replace(/^.*?(?=node_modules\/)/, ''));
      }
    }
  }
  // esbuild inlines what a stylesheet refers to, and counts it to the stylesheet.
  for (const { inputs } of metafiles) {
    for (const path of Object.keys(inputs)) if (/\.woff2$/.test(path)) used.add(path.replace(/^.*?(?=node_modules\/)/, ''));
  }
  const folders = new Set([...used].map((path) => path.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//)?.[1]).filter(Boolean));

  const entries = [];
  for (const folder of folders) {
    const { name, version, license, author } = JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8'));
    if (!license) throw new Error(`licences: ${name} has none`);
    const file = (await readdir(join(root, folder))).sort().find((file) => /^(licen[cs]e|copying)(\.(md|txt|mit))?$/i.test(file));
    let text;
    if (file) {
      text = await readFile(join(root, folder, file), 'utf8');
    } else {
      const holder = withoutFile.find(([names]) => names.test(name))?.[1] ?? (typeof author === 'string' ? author : author?.name);
      if (!holder || license !== 'MIT') throw new Error(`licences: ${name} (${license}) comes without a text`);
      text = mit(holder);
    }
    entries.push({ title: `${name} ${version}`, license, text: tidy(text) });
  }
  const notices = tidy(await readFile(join(root, 'node_modules/monaco-editor/ThirdPartyNotices.txt'), 'utf8'));
  for (const { files, title, license, text, notice } of within) {
    if (![...used].some((path) => files.test(path))) continue;
    entries.push({ title, license, text: text ?? section(notices, notice) });
  }
  entries.sort((a, b) => (a.title < b.title ? -1 : 1));

  const byText = new Map();
  for (const { title, text } of entries) byText.set(text, [...(byText.get(text) ?? []), title]);
  const line = '-'.repeat(80);
  return Buffer.from(
    [
      'The explorer page (index.html, app.js, app.css, worker.js) contains these packages:\n',
      ...entries.map(({ title, license }) => `  ${title}: ${license}`),
      ...[...byText].map(([text, titles]) => `\n${line}\n${titles.join('\n')}\n${line}\n\n${text}`),
      '',
    ].join('\n'),
  );
}

function section(notices, name) {
  const start = notices.search(new RegExp(`^%% ${name}.*(BEGIN HERE|\\n=+)`, 'm'));
  const found = start < 0 ? null : notices.slice(start).match(/^%%.*\n=+\n([\s\S]*?)\n=+\nEND OF/);
  if (!found) throw new Error(`licences: monaco-editor has no notice for ${name}`);
  return tidy(found[1]);
}
