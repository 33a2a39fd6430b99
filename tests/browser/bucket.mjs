// node bucket.mjs private|public SERVER APP STRANGER PHOTO
// A page of APP, which the bucket's rules let in, uploads a photo and a file in parts straight to the bucket, shows the
// one and reads the other. A page of STRANGER may not send. See bucket.sh.
import { chromium } from 'playwright-core';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [way, server, app, stranger, photoFile] = process.argv.slice(2);
const photo = readFileSync(photoFile);
let failed = 0;
function check(ok, what, detail = '') {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${way}: ${what}${ok || !detail ? '' : `: ${detail}`}`);
  if (!ok) failed += 1;
}

const pages = [app, stranger].map((origin) => {
  const page = createServer((_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<!doctype html><title>An app</title>');
  });
  return page.listen(Number(new URL(origin).port), '127.0.0.1');
});
const profile = mkdtempSync(join(tmpdir(), 'bucket-check-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

// What runs in a page: the client of an app, as its makers would write it.
async function client({ server, bytes, path, contentType, sha256, partSize }) {
  const ask = async (query, variables) => {
    const response = await fetch(`${server}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = await response.json();
    if (errors) throw new Error(JSON.stringify(errors));
    return data;
  };
  const body = new Uint8Array(bytes);
  const send = (target, some) =>
    fetch(target.url, {
      method: target.method,
      headers: Object.fromEntries(target.headers.map(({ name, value }) => [name, value])),
      body: some,
    });
  const target = 'method url headers { name value }';
  const { startUpload } = await ask(
    `mutation($input: StartUploadInput!) { startUpload(input: $input) { intent { id target { ${target} } parts { number offset size target { ${target} } } } } }`,
    { input: { path, contentType, size: body.length, sha256, partSize } },
  );
  const { intent } = startUpload;
  const parts = [];
  const went = new Set();
  if (intent.target) {
    went.add(new URL(intent.target.url).origin);
    const sent = await send(intent.target, body);
    if (!sent.ok) throw new Error(`sent: ${sent.status}`);
  }
  for (const part of intent.parts) {
    went.add(new URL(part.target.url).origin);
    const sent = await send(part.target, body.slice(part.offset, part.offset + part.size));
    parts.push({ number: part.number, etag: sent.headers.get('etag') });
  }
  const { finishUpload } = await ask(
    'mutation($input: FinishUploadInput!) { finishUpload(input: $input) { version { sha256 url asset { url } } } }',
    { input: { intentId: intent.id, parts: partSize ? parts : undefined } },
  );
  return { version: finishUpload.version, went: [...went], parts };
}

const show = (url) =>
  new Promise((resolve) => {
    const image = new Image();
    // Without it the browser keeps an answer that no script may read, and gives that one to scripts, too.
    image.crossOrigin = 'anonymous';
    image.onload = () => resolve(image.naturalWidth);
    image.onerror = () => resolve(0);
    image.src = url;
    document.body.append(image);
  });
const readAll = async (url) => {
  const response = await fetch(url);
  const digest = await crypto.subtle.digest('SHA-256', await response.arrayBuffer());
  const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return { hex, from: new URL(response.url).origin };
};

try {
  const page = context.pages()[0] ?? (await context.newPage());
  await page.goto(app);
  const sha256 = createHash('sha256').update(photo).digest('hex');
  const upload = { server, bytes: [...photo], path: 'photos/hopper.jpg', contentType: 'image/jpeg', sha256 };
  const sent = await page.evaluate(client, upload);
  check(sent.version.sha256 === sha256, 'a page sends a photo', JSON.stringify(sent));
  check(!sent.went.includes(server), 'it goes straight to the bucket', sent.went.join(' '));
  for (const url of [sent.version.asset.url, sent.version.url]) {
    const width = await page.evaluate(show, url);
    check(width > 0, `the photo shows at ${new URL(url).pathname}`);
    const read = await page.evaluate(readAll, url);
    check(read.hex === sha256 && read.from !== server, 'a page reads it from the bucket', JSON.stringify(read));
  }

  const large = Buffer.alloc(6 * 1024 * 1024, 'vellum');
  const whole = createHash('sha256').update(large).digest('hex');
  const parts = { server, bytes: [...large], path: 'large.bin', contentType: 'application/octet-stream', partSize: 5 * 1024 * 1024 };
  const joined = await page.evaluate(client, parts);
  check(joined.version.sha256 === whole, 'a page sends a file in parts', JSON.stringify(joined.version));
  check(joined.parts.length === 2 && joined.parts.every(({ etag }) => etag), 'it gets to see their tags');

  await page.goto(stranger);
  const refused = await page.evaluate(client, { ...upload, path: 'photos/strange.jpg' }).catch((error) => String(error));
  check(typeof refused === 'string' && refused.includes('Failed to fetch'), 'a page that the bucket does not know may not', JSON.stringify(refused));
} finally {
  await context.close();
  pages.forEach((page) => page.close());
  rmSync(profile, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
