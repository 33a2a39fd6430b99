// Preloaded into transport-ws.mjs: one of its checks wants a subscription with several events that then completes.
// `uploadIntent` of an open upload is one, if the upload goes on while somebody watches. So here, when that check
// subscribes (its operation has the id s1), the upload is cancelled a moment later.
import WebSocket from 'ws';

const { STEPS_URL: url, STEPS_INTENT: intent } = process.env;
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data, ...rest) {
  if (typeof data === 'string' && data.includes('"id":"s1"') && data.includes(intent)) {
    setTimeout(() => ask('mutation($id: ID!) { cancelUpload(input: { intentId: $id }) { intent { status } } }', { id: intent }), 200);
  }
  return send.call(this, data, ...rest);
};

async function ask(query, variables) {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query, variables }) });
  const { data, errors } = await response.json();
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}
