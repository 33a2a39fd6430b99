// Makes what the operations of run.sh need; prints it as JSON:
//   node prepare.mjs http://127.0.0.1:4000/graphql
// an open upload (for steps.mjs), and a version of an asset (restoring it counts up).
const url = process.argv[2];

async function ask(query, variables) {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query, variables }) });
  const { data, errors } = await response.json();
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}

const start = 'mutation($path: String!) { startUpload(input: { path: $path }) { intent { id target { method url } } } }';
const open = (await ask(start, { path: 'conformance/open' })).startUpload.intent;
const upload = (await ask(start, { path: 'conformance/counted/file' })).startUpload.intent;
await fetch(upload.target.url, { method: upload.target.method, body: 'text' });
const finish = 'mutation($id: ID!) { finishUpload(input: { intentId: $id }) { version { id } } }';
const { version } = (await ask(finish, { id: upload.id })).finishUpload;
console.log(JSON.stringify({ open: open.id, version: version.id }));
