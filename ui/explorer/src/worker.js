// The editor's, the JSON and the GraphQL worker in one file: they share most of their code.
// The two language workers are loaded (from within this file) only where they are wanted; what
// the page posts in the meantime is kept and handed over, since loading takes a turn.
const kept = [];
globalThis.onmessage = (event) => kept.push(event);

async function load() {
  switch (globalThis.name) {
    case 'json':
      return import('monaco-editor/esm/vs/language/json/json.worker.js');
    case 'graphql':
      return import('monaco-graphql/esm/graphql.worker.js');
    default:
      return import('monaco-editor/esm/vs/editor/editor.worker.js');
  }
}

load().then(() => {
  for (const event of kept) globalThis.onmessage(event);
});
