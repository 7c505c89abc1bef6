// What both scripts share: the load, how it is asked for, and what counts as a good run.
//
//   URL        base URL, or several with commas     http://localhost:8080
//   KEY        API key or JWT                        none
//   QUESTION   what is asked                         What is a closure?
//   MAX_TOKENS of an answer                          256
//   RATE       answers begun in a second at the top  2
//   RAMP       how long the rate takes to get there  30s
//   HOLD       how long it stays                     1m
//   VUS        most answers at a time                60 times RATE
//   ANSWER     longest that an answer may take       5m
//   FIRST_MS   95 % of first bytes come sooner       1000

import { check } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';
import http from 'k6/http';

export const urls = (__ENV.URL || 'http://localhost:8080').split(',').map((url) => url.replace(/\/$/, ''));
export const question = __ENV.QUESTION || 'What is a closure?';
export const maxTokens = Number(__ENV.MAX_TOKENS || 256);

const rate = Number(__ENV.RATE || 2);
const ramp = __ENV.RAMP || '30s';
const longest = __ENV.ANSWER || '5m';
const vus = Number(__ENV.VUS || 60 * rate);

const answers = new Counter('answers');
const firstByte = new Trend('first_byte', true);
const refused = new Rate('refused');

// Admission that says 429 does its work: no failed request, but counted apart.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }, 429));

export const options = {
  scenarios: {
    answers: {
      executor: 'ramping-arrival-rate',
      startRate: 0,
      timeUnit: '1s',
      stages: [
        { target: rate, duration: ramp },
        { target: rate, duration: __ENV.HOLD || '1m' },
      ],
      preAllocatedVUs: Math.ceil(vus / 4),
      maxVUs: vus,
      gracefulStop: longest,
    },
  },
  thresholds: {
    answers: ['count>0'],
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
    http_req_failed: ['rate<0.01'],
    first_byte: [`p(95)<${__ENV.FIRST_MS || 1000}`],
  },
};

export function params(name, headers = {}) {
  const key = __ENV.KEY ? { Authorization: `Bearer ${__ENV.KEY}` } : {};
  return {
    headers: { 'Content-Type': 'application/json', ...key, ...headers },
    tags: { name },
    timeout: longest,
  };
}

// Whether admission took the question. A refusal must say when to come again.
export function admitted(response) {
  const no = response.status === 429;
  refused.add(no);
  if (no) {
    check(response, { 'a refusal names Retry-After': (r) => Number(r.headers['Retry-After']) >= 1 });
  } else {
    firstByte.add(response.timings.waiting);
  }
  return !no;
}

// The server-sent events of a whole body, with what their data mean as JSON.
export function eventsOf(body) {
  return body
    .split('\n\n')
    .map((block) => block.split('\n'))
    .map((lines) => ({
      kind: field(lines, 'event') || 'message',
      data: parsed(field(lines, 'data')),
    }))
    .filter((event) => event.data !== undefined);
}

export function judge(subject, checks) {
  if (check(subject, checks)) {
    answers.add(1);
  }
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}

function field(lines, name) {
  const line = lines.find((one) => one.startsWith(`${name}: `));
  return line && line.slice(name.length + 2);
}
