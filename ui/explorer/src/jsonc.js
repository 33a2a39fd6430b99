// In place of prettier's JSON formatter (and with it the whole of Babel).
import { applyEdits, format } from 'jsonc-parser';

export function formatJSONC(content) {
  const edits = format(content, undefined, { insertSpaces: true, tabSize: 2, eol: '\n' });
  return applyEdits(content, edits);
}
