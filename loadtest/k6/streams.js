// Answers of Lore's own API that are asked for at one edge and read at the next: every seq is
// there once, and the text is that of the JSON view.
//
//   k6 run -e URL=http://localhost:8080,http://localhost:8081 loadtest/k6/streams.js
//
// They are asked for with ack "none", made to their end whoever reads. What the store's clock says
// of each: `queued`, until a generator took it, and `generated`, from then to its end.
// All settings: load.js.

import { Trend } from 'k6/metrics';
import http from 'k6/http';

import { admitted, eventsOf, judge, maxTokens, options as load, params, question, urls } from './load.js';

export const options = load;

const queued = new Trend('queued', true);
const generated = new Trend('generated', true);

export default function () {
  const at = (turn) => urls[(__ITER + turn) % urls.length];
  const asked = http.post(
    `${at(0)}/v1/streams`,
    JSON.stringify({ question, max_tokens: maxTokens, ack: 'none' }),
    params('ask'),
  );
  if (!admitted(asked)) return;
  if (asked.status !== 201) {
    judge(asked, { 'status is 201': () => false });
    return;
  }

  const address = asked.json();
  const read = http.get(at(1) + address.stream_url, params('read', { Accept: 'text/event-stream' }));
  const viewed = http.get(`${at(2)}/v1/streams/${address.request_id}`, params('view'));
  const view = viewed.status === 200 ? viewed.json() : {};
  const events = read.status === 200 ? eventsOf(read.body) : [];
  const chunks = events.filter((event) => event.kind === 'message').map((event) => event.data);
  const ends = events.filter((event) => event.kind === 'end').map((event) => event.data);
  judge(read, {
    'status is 200': (r) => r.status === 200,
    'no seq is missing or doubled': () => chunks.every((chunk, before) => chunk.seq === before + 1),
    'it ends once, after the last chunk': () => ends.length === 1 && ends[0].last_seq === chunks.length,
    'it ends as done': () => ends.length === 1 && ends[0].status === 'done',
    'the text is that of the JSON view': () => chunks.map((chunk) => chunk.text).join('') === view.text,
  });
  if (view.finished_at) {
    const [created, started, finished] = [view.created_at, view.started_at, view.finished_at].map(Date.parse);
    queued.add(started - created);
    generated.add(finished - started);
  }
}
