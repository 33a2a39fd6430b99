// node files.mjs http://127.0.0.1:4000
// What somebody uploads must not run with the rights of the server's origin, however it is opened; images have to show, and
// a PDF has to open in the browser's viewer. The server is in dev mode: any script of its origin could do everything.
import { chromium } from 'playwright-core';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';

const base = process.argv[2];
let failed = 0;
function check(ok, what, detail = '') {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${what}${ok || !detail ? '' : `: ${detail}`}`);
  if (!ok) failed += 1;
}
async function ask(query, variables = {}) {
  const response = await fetch(`${base}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  const answer = await response.json();
  if (answer.errors) throw new Error(JSON.stringify(answer.errors));
  return answer.data;
}
async function upload(path, filename, contentType, bytes) {
  const started = await ask(
    `mutation($input: StartUploadInput!) { startUpload(input: $input) { intent { id target { method url headers { name value } } } } }`,
    { input: { path, filename, contentType } },
  );
  const { id, target } = started.startUpload.intent;
  const headers = Object.fromEntries(target.headers.map(({ name, value }) => [name, value]));
  const sent = await fetch(target.url, { method: target.method, headers, body: bytes });
  if (!sent.ok) throw new Error(await sent.text());
  const finished = await ask(
    `mutation($id: ID!) { finishUpload(input: { intentId: $id }) { asset { url } version { url contentType signedUrl { url } } } }`,
    { id },
  );
  return { ...finished.finishUpload.version, stable: finished.finishUpload.asset.url };
}

/** What an attacker would run: takes over the library, and calls home. */
const attack = `try { window.pwned = 1; document.title = 'pwned' } catch (e) {}
fetch('${base}/graphql', { method: 'POST', headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ query: 'mutation { createFolder(input: { path: "pwned" }) { created } }' }) });
new Image().src = '${base}/healthz?pwned';`;
const files = [
  ['svg', 'a.svg', 'image/svg+xml', `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30" onload="${attack.replace(/"/g, '&quot;').replace(/</g, '&lt;')}"><script>${attack.replace(/&/g, '&amp;').replace(/</g, '&lt;')}</script><rect width="40" height="30" fill="red"/></svg>`],
  ['html', 'a.html', 'text/html', `<!doctype html><title>x</title><body onload="${attack.replace(/"/g, '&quot;')}"><script>${attack}</script><img src=x onerror="${attack.replace(/"/g, '&quot;')}"><meta http-equiv="refresh" content="0;url=javascript:window.pwned=1">`],
  ['xhtml', 'a.xhtml', 'application/xhtml+xml', `<html xmlns="http://www.w3.org/1999/xhtml"><head><script>${attack.replace(/&/g, '&amp;').replace(/</g, '&lt;')}</script></head><body/></html>`],
  ['xml', 'a.xml', 'application/xml', `<?xml version="1.0"?><r><s xmlns="http://www.w3.org/1999/xhtml"><script>${attack.replace(/&/g, '&amp;').replace(/</g, '&lt;')}</script></s></r>`],
  ['text that is html', 'a.txt', 'text/plain', `<!doctype html><script>${attack}</script>`],
  ['unknown bytes that are html', 'a.bin', 'application/octet-stream', `<!doctype html><script>${attack}</script>`],
];
/** A page with a word on it, as a PDF. */
function pdf() {
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    '<< /Type /Pages /Kids [3 0 R] /Count 1 >>',
    '<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>',
    '<< /Length 38 >>\nstream\nBT /F1 24 Tf 20 40 Td (Vellum) Tj ET   \nendstream',
    '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>',
  ];
  let text = '%PDF-1.4\n';
  const offsets = objects.map((object, index) => {
    const at = text.length;
    text += `${index + 1} 0 obj\n${object}\nendobj\n`;
    return at;
  });
  const xref = text.length;
  text += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n`;
  text += offsets.map((at) => `${String(at).padStart(10, '0')} 00000 n \n`).join('');
  return `${text}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${xref}\n%%EOF\n`;
}

/** A file that a client without a role sends to an upload URL, with a type that browsers could take for HTML. */
async function send(contentType, bytes) {
  const { generateUploadUrl: target } = await ask('mutation { generateUploadUrl { method url } }');
  const sent = await fetch(target.url, { method: target.method, headers: { 'content-type': contentType }, body: bytes });
  const { storageId } = await sent.json();
  const { storedFile } = await ask('query($id: ID!) { storedFile(id: $id) { url } }', { id: storageId });
  return storedFile.url;
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
// Somebody else's page, to show things in.
const elsewhere = createServer((request, response) => {
  response.setHeader('content-type', 'text/html');
  response.end('<!doctype html><title>elsewhere</title>');
}).listen(0, '127.0.0.1');
try {
  const context = await browser.newContext();
  const calls = [];
  context.on('request', (request) => {
    if (request.method() === 'POST' || request.url().includes('pwned')) calls.push(`${request.method()} ${request.url()}`);
  });
  for (const [what, filename, contentType, content] of files) {
    const uploaded = await upload(`attack/${filename}`, filename, contentType, content);
    for (const [how, url] of [['stable', uploaded.stable], ['own', uploaded.url], ['signed', uploaded.signedUrl.url]]) {
      const page = await context.newPage();
      calls.length = 0;
      let downloaded = false;
      page.on('download', () => { downloaded = true; });
      await page.goto(url, { waitUntil: 'load' }).catch((error) => {
        if (!/Download is starting|ERR_ABORTED/.test(error.message)) throw error;
        downloaded = true;
      });
      // Time for a script to do its work, if there is one that runs.
      await page.waitForTimeout(300);
      const ran = downloaded ? false : await page.evaluate(() => window.pwned === 1 || document.title === 'pwned').catch(() => false);
      check(!ran && calls.length === 0, `${what} at its ${how} URL runs nothing`, `ran: ${ran}, calls: ${calls}`);
      await page.close();
    }
    // In a frame, an object and an embed of the server's own origin's neighbour.
    const page = await context.newPage();
    calls.length = 0;
    await page.goto(`http://127.0.0.1:${elsewhere.address().port}/`);
    await page.setContent(`<iframe src="${uploaded.stable}"></iframe><object data="${uploaded.stable}"></object><embed src="${uploaded.stable}">`);
    await page.waitForTimeout(300);
    check(calls.length === 0, `${what} in another page runs nothing`, calls.join(', '));
    await page.close();
  }
  for (const contentType of ['text/plain;,text/html', 'text/plain,text/html', 'application/json;,image/svg+xml', 'text/html;x="', 'application/x-new']) {
    const page = await context.newPage();
    calls.length = 0;
    const html = `<!doctype html><script>${attack}</script>`;
    await page.goto(await send(contentType, html), { waitUntil: 'load' }).catch(() => {});
    await page.waitForTimeout(300);
    check(calls.length === 0, `a file declared as ${contentType} runs nothing`, calls.join(', '));
    await page.close();
  }
  // What gets into the explorer's page, which may have a token, can neither load uploaded scripts nor stay there.
  const script = await upload('attack/script.js', 'script.js', 'text/javascript', attack);
  const explorer = await context.newPage();
  await explorer.goto(`${base}/graphql`, { waitUntil: 'load' });
  calls.length = 0;
  const outcome = await explorer.evaluate(async (url) => {
    const loaded = await new Promise((resolve) => {
      const element = document.createElement('script');
      element.onload = () => resolve('loaded');
      element.onerror = () => resolve('refused');
      element.src = url;
      document.head.append(element);
    });
    const registered = await navigator.serviceWorker.register(url).then(() => 'registered', () => 'refused');
    return `${loaded}, ${registered}`;
  }, script.stable);
  check(outcome === 'refused, refused', 'the explorer takes no uploaded script', outcome);
  await explorer.close();
  const folder = await ask('{ folder(path: "pwned") { id } }');
  check(folder.folder === null, 'no attack reached the library');

  const photo = await upload('photo', 'photo.jpg', 'image/jpeg', readFileSync(new URL('../../examples/photos/hopper.jpg', import.meta.url)));
  const drawing = await upload('drawing', 'drawing.svg', 'image/svg+xml', files[0][3]);
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${elsewhere.address().port}/`);
  for (const [what, url] of [['a photo', photo.stable], ['an SVG', drawing.stable], ['a photo at its own URL', photo.url]]) {
    const width = await page.evaluate(
      (src) => new Promise((resolve) => {
        const image = new Image();
        image.onload = () => resolve(image.naturalWidth);
        image.onerror = () => resolve(0);
        image.src = src;
      }),
      url,
    );
    check(width > 0, `${what} shows in another page`);
  }
  for (const again of ['', ', asked for again']) {
    const response = await page.goto(photo.stable);
    check([200, 304].includes(response.status()) && (await page.evaluate(() => document.images[0]?.naturalWidth > 0)), `a photo opens${again}`);
  }
  const document = await upload('paper', 'paper.pdf', 'application/pdf', pdf());
  let downloaded = false;
  page.on('download', () => { downloaded = true; });
  const response = await page.goto(document.stable).catch(() => null);
  const viewer = response && !downloaded && (await page.evaluate(() => document.querySelector('embed')?.type === 'application/pdf' || document.contentType === 'application/pdf').catch(() => false));
  check(viewer, 'a PDF opens in the viewer of the browser', `downloaded: ${downloaded}`);
} finally {
  elsewhere.close();
  await browser.close();
}
if (failed) process.exit(1);
