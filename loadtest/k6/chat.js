// Chats at OpenAI's endpoint, streamed, at a rate that ramps up whether or not answers come.
//
//   k6 run -e URL=http://localhost:8080 -e RATE=5 loadtest/k6/chat.js
//
// k6 keeps a body until it is whole. So `first_byte` (http_req_waiting of what admission took) is
// when the edge has taken the question, before the model has said a word, and http_req_duration
// when the last byte has come. All settings: load.js.

import { Counter } from 'k6/metrics';
import http from 'k6/http';

import { admitted, eventsOf, judge, maxTokens, options as load, params, question, urls } from './load.js';

export const options = load;

const tokens = new Counter('answer_tokens');

export function setup() {
  return http.get(`${urls[0]}/v1/models`, params('models')).json('data.0.id');
}

export default function (model) {
  const response = http.post(
    `${urls[__ITER % urls.length]}/v1/chat/completions`,
    JSON.stringify({
      model: model,
      messages: [{ role: 'user', content: question }],
      max_tokens: maxTokens,
      stream: true,
      stream_options: { include_usage: true },
    }),
    params('chat'),
  );
  if (!admitted(response)) return;

  const chunks = response.status === 200 ? eventsOf(response.body).map((event) => event.data) : [];
  const last = chunks[chunks.length - 1];
  const choices = chunks.flatMap((chunk) => chunk.choices || []);
  const usage = chunks.map((chunk) => chunk.usage).find(Boolean);
  judge(response, {
    'status is 200': (r) => r.status === 200,
    'there is text': () => choices.some((choice) => choice.delta.content),
    'there is a finish_reason': () => choices.some((choice) => ['stop', 'length'].includes(choice.finish_reason)),
    'it ends with [DONE]': () => last === '[DONE]',
  });
  if (usage) tokens.add(usage.completion_tokens);
}
