// node explorer.mjs URL [--trigger] [--token TOKEN] [--screenshot FILE]
// Opens the explorer in a real browser and uses it: it must load without an error, ask no other host
// for anything, run a query and run a subscription.
import { chromium } from 'playwright-core';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const args = process.argv.slice(2);
const url = args.find((arg) => /^https?:/.test(arg));
if (!url) throw new Error('usage: node explorer.mjs http://127.0.0.1:4000/graphql [--trigger] [--token TOKEN] [--screenshot FILE]');
const option = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
const trigger = args.includes('--trigger');
const token = option('--token');
const screenshot = option('--screenshot');
const host = new URL(url).host;

let failed = 0;
function check(ok, what, detail = '') {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${what}${ok || !detail ? '' : `: ${detail}`}`);
  if (!ok) failed += 1;
}
async function waitFor(what, condition, ms = 15000) {
  const end = Date.now() + ms;
  let last;
  while (Date.now() < end) {
    last = await condition();
    if (last) return last;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`waited ${ms} ms for ${what}`);
}

const profile = mkdtempSync(join(tmpdir(), 'explorer-check-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  viewport: { width: 1400, height: 900 },
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const problems = [];
const foreign = [];
const violations = [];
const loaded = new Set();
const sockets = [];
const posts = [];
try {
  const page = context.pages()[0] ?? (await context.newPage());
  // Workers included: a request of theirs is one of the context.
  context.on('request', (request) => {
    const target = new URL(request.url());
    if (['data:', 'blob:', 'about:'].includes(target.protocol)) return;
    if (target.host !== host) foreign.push(request.url());
    else loaded.add(target.pathname);
    if (request.method() === 'POST') posts.push(request.headers());
  });
  context.on('response', (response) => {
    if (response.status() >= 400) problems.push(`${response.status()} ${response.url()}`);
  });
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`uncaught: ${error.stack ?? error}`));
  page.on('worker', (worker) => loaded.add(`worker ${worker.url().replace(/^https?:\/\/[^/]*/, '')}`));
  page.on('websocket', (socket) => {
    if (new URL(socket.url()).host !== host) foreign.push(socket.url());
    const entry = { url: socket.url(), sent: [], received: [], closed: false };
    sockets.push(entry);
    socket.on('framesent', ({ payload }) => entry.sent.push(JSON.parse(payload)));
    socket.on('framereceived', ({ payload }) => entry.received.push(JSON.parse(payload)));
    socket.on('close', () => (entry.closed = true));
  });
  await page.exposeFunction('reportViolation', (text) => violations.push(text));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`));
  });

  await page.goto(url, { waitUntil: 'load' });
  check((await page.title()) === 'Vellum – GraphiQL', 'the title is "Vellum – GraphiQL"', await page.title());
  const play = page.locator('button.graphiql-execute-button');
  await play.waitFor({ timeout: 20000 });
  await page.locator('.graphiql-query-editor .monaco-editor .view-line').first().waitFor({ timeout: 20000 });
  const editorText = async (selector) => (await page.locator(`${selector} .monaco-editor .view-lines`).innerText()).replaceAll('\u00a0', ' ');
  check((await editorText('.graphiql-query-editor')).includes('query Library'), 'the default operations are in the editor');
  // Monaco shows only what is in view, so the pane's whole text is taken from its model.
  const response = () => page.evaluate(() => globalThis.__MONACO.editor.getModels().find((model) => model.uri.path.endsWith('response.json'))?.getValue() ?? '');

  await waitFor('the introspection', () => posts.length > 0);
  await page.locator('button[aria-label="Show Documentation Explorer"], button[aria-label="Hide Documentation Explorer"]').first().click();
  await page.locator('.graphiql-doc-explorer-root-type, .graphiql-doc-explorer-section').first().waitFor({ timeout: 15000 }).then(
    () => check(true, 'the documentation shows the schema'),
    () => check(false, 'the documentation shows the schema'),
  );

  if (token) {
    await page.locator('button:has-text("Headers")').first().click();
    await page.locator('section[aria-label="Headers"] .monaco-editor').last().click();
    await page.keyboard.insertText(JSON.stringify({ Authorization: `Bearer ${token}`, 'X-Check': '1' }));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }

  const run = async (name) => {
    await play.click();
    await page.locator('[role="menuitem"]', { hasText: name }).click();
  };

  await run('Library');
  await waitFor('the answer to Library', async () => (await response()).includes('headCursor')).then(
    () => check(true, 'running Library shows headCursor'),
    async (error) => check(false, 'running Library shows headCursor', `${error.message}; ${await response()}`),
  );
  check((await editorText('.graphiql-response')).includes('headCursor'), 'the response pane displays it');
  if (token) {
    check(posts.at(-1).authorization === `Bearer ${token}` && posts.at(-1)['x-check'] === '1', 'the headers are sent over HTTP', JSON.stringify(posts.at(-1)));
  }
  if (screenshot) await page.screenshot({ path: screenshot });

  await run('Watch');
  await waitFor('a subscribe on a websocket', () => sockets.some(({ sent }) => sent.some(({ type }) => type === 'subscribe'))).then(
    () => check(true, 'running Watch opens a websocket and subscribes'),
    async (error) => check(false, 'running Watch opens a websocket and subscribes', `${error.message}; ${JSON.stringify(sockets)}; ${await response()}`),
  );
  const socket = sockets.find(({ sent }) => sent.some(({ type }) => type === 'subscribe'));
  if (socket) {
    const wanted = url.replace(/^http/, 'ws').replace(/[?#].*/, '');
    check(socket.url === wanted, `the websocket is ${wanted}`, socket.url);
    check(socket.received.some(({ type }) => type === 'connection_ack'), 'the server acknowledges the connection');
    if (token) check(socket.sent[0]?.payload?.Authorization === `Bearer ${token}`, 'connection_init carries Authorization', JSON.stringify(socket.sent[0]));
  }
  const stop = page.locator('button.graphiql-execute-button[aria-label^="Stop"]');
  await stop.waitFor({ timeout: 5000 }).then(
    () => check(true, 'the stop button shows'),
    () => check(false, 'the stop button shows'),
  );

  if (trigger) {
    const path = `explorer-check-${randomBytes(4).toString('hex')}`;
    const answer = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) },
      body: JSON.stringify({ query: `mutation { createFolder(input: { path: "${path}" }) { folder { id } } }` }),
    }).then((answer) => answer.text());
    check(/"folder":\s*\{/.test(answer), 'createFolder succeeds', answer);
    await waitFor('the event', async () => (await response()).includes('FOLDER_CREATE') && (await response()).includes(path)).then(
      () => check(true, 'the response pane shows FOLDER_CREATE'),
      async (error) => check(false, 'the response pane shows FOLDER_CREATE', `${error.message}; ${await response()}`),
    );
    if (screenshot) await page.screenshot({ path: screenshot.replace(/(\.\w+)$/, '-watch$1') });
  }

  await stop.click();
  await page.locator('button.graphiql-execute-button[aria-label^="Execute"]').waitFor({ timeout: 5000 }).then(
    () => check(true, 'stopping brings the play button back'),
    () => check(false, 'stopping brings the play button back'),
  );
  if (socket) {
    await waitFor('the complete', () => socket.sent.some(({ type }) => type === 'complete') || socket.closed, 5000).then(
      () => check(true, 'stopping ends the subscription'),
      () => check(false, 'stopping ends the subscription'),
    );
  }

  await new Promise((resolve) => setTimeout(resolve, 1000));
  check(problems.length === 0, 'no error and no warning in the console', `\n     ${problems.join('\n     ')}`);
  check(violations.length === 0, 'nothing against the content security policy', violations.join('; '));
  check(foreign.length === 0, 'no request to another host', foreign.join(', '));
  console.log(`     loaded: ${[...loaded].sort().join(', ')}`);
} catch (error) {
  check(false, 'the check runs to its end', error.stack);
  for (const problem of [...problems, ...violations]) console.log(`     ${problem}`);
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
