import './style.css';
import './workers.js';
import { GraphiQL } from 'graphiql';
import { createRoot } from 'react-dom/client';
import { fetcher } from './fetcher.js';
import { defaultQuery } from './default-query.js';

createRoot(document.getElementById('app')).render(
  <GraphiQL fetcher={fetcher} defaultQuery={defaultQuery} isHeadersEditorEnabled defaultEditorToolsVisibility>
    <GraphiQL.Logo>
      Vellum · Graph<em>i</em>QL
    </GraphiQL.Logo>
  </GraphiQL>,
);
