// Queries and mutations go over HTTP, subscriptions over a websocket, both to /graphql of the host
// the page came from.
import { createClient } from 'graphql-ws';

const httpUrl = `${location.origin}/graphql`;
const wsUrl = httpUrl.replace(/^http/, 'ws');

export function fetcher(params, { headers = {}, documentAST } = {}) {
  return isSubscription(documentAST, params.operationName) ? subscribe(params, headers) : post(params, headers);
}

function isSubscription(document, operationName) {
  const operations = document?.definitions.filter((definition) => definition.kind === 'OperationDefinition') ?? [];
  const chosen = operationName ? operations.find((operation) => operation.name?.value === operationName) : operations[0];
  return chosen?.operation === 'subscription';
}

async function post(params, headers) {
  const response = await fetch(httpUrl, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/graphql-response+json, application/json;q=0.9',
      ...headers,
    },
    body: JSON.stringify(params),
  }).catch((problem) => {
    throw failure(`The request to ${httpUrl} failed: ${problem.message}`);
  });
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    throw failure(`HTTP ${response.status} ${response.statusText}: ${text || 'an empty answer'}`);
  }
}

// One connection per subscription, so that each takes the Authorization header as it is typed at
// that moment. No reconnecting: a lost connection is shown, not hidden.
function subscribe(params, headers) {
  const authorization = Object.entries(headers).find(([name]) => name.toLowerCase() === 'authorization')?.[1];
  return {
    subscribe(observer) {
      const client = createClient({
        url: wsUrl,
        connectionParams: authorization ? { Authorization: authorization } : undefined,
        retryAttempts: 0,
      });
      const stop = client.subscribe(params, {
        next: (result) => observer.next(result),
        error: (problem) => observer.error(readable(problem)),
        complete: () => observer.complete(),
      });
      return { unsubscribe: stop };
    },
  };
}

// What graphql-ws reports: a list of GraphQL errors, an Error, a CloseEvent, or a bare Event when
// the connection could not be made at all.
function readable(problem) {
  if (Array.isArray(problem)) return problem;
  if (problem instanceof Error) return failure(problem.message);
  if (problem instanceof CloseEvent) return failure(`The websocket was closed: ${problem.code} ${problem.reason}`.trim());
  return failure(`The websocket to ${wsUrl} failed`);
}

// GraphiQL shows an error with its stack, which here is of minified code.
function failure(message) {
  return Object.assign(new Error(message), { stack: undefined });
}
