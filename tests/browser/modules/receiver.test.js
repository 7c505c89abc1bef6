import assert from "node:assert/strict";
import { test } from "node:test";

import { Receiver, backoff } from "../../../clients/js/lib/receiver.js";
import { random } from "./random.js";

/** A reader that has taken chunks 1 to n at time 0, all acknowledged. */
function reader(n) {
  const receiver = new Receiver();
  for (let seq = 1; seq <= n; seq += 1) receiver.take(seq, "x", 0);
  if (receiver.takeAck(1000) !== null) receiver.ackSettled(true, 1000);
  return receiver;
}

test("chunks in order come out as they come in (P1)", () => {
  const receiver = new Receiver();
  assert.equal(receiver.take(1, "a", 0), "a");
  assert.equal(receiver.take(2, "b", 0), "b");
  assert.equal(receiver.seq, 2);
});

test("a chunk seen twice is dropped and acknowledged again at once (P11)", () => {
  const receiver = reader(3);
  assert.equal(receiver.takeAck(5000), null);
  assert.equal(receiver.take(2, "x", 5000), "");
  assert.equal(receiver.duplicates, 1);
  assert.equal(receiver.takeAck(5000), 3);
});

test("what comes early waits for the gap to fill, and the filled gap is acknowledged at once", () => {
  const receiver = reader(1);
  assert.equal(receiver.take(3, "c", 5000), "");
  assert.equal(receiver.takeAck(5000), null);
  assert.equal(receiver.take(2, "b", 5001), "bc");
  assert.equal(receiver.takeAck(5001), 3);
});

test("a gap that stays calls for a new connection, and starts from what is in order", () => {
  const receiver = reader(1);
  receiver.take(3, "c", 1000);
  assert.ok(!receiver.gapExpired(3999));
  assert.equal(receiver.deadline(), 4000);
  assert.ok(receiver.gapExpired(4000));
  receiver.restarted();
  assert.ok(!receiver.gapExpired(9000));
  assert.equal(receiver.take(2, "b", 9000), "b");
  assert.equal(receiver.take(3, "c", 9000), "c");
});

test("the chunks held behind a gap are bounded, and what is dropped stays missing", () => {
  const receiver = new Receiver();
  for (let seq = 2; seq <= 3000; seq += 1) receiver.take(seq, "x", 0);
  assert.equal(receiver.early, 1024);
  assert.equal(receiver.take(1, "x", 0).length, 1025);
  assert.ok(receiver.gap);
});

test("acks wait for a quarter of the window, or for less than half a second (P9)", () => {
  const receiver = new Receiver();
  receiver.window = 64;
  receiver.take(1, "x", 1, 14);
  receiver.take(2, "x", 2, 15);
  assert.equal(receiver.takeAck(2), null);
  assert.equal(receiver.deadline(), 401);
  receiver.take(3, "x", 3, 16);
  assert.equal(receiver.takeAck(3), 3);
  receiver.ackSettled(true, 20);
  receiver.take(4, "x", 30, 17);
  assert.equal(receiver.takeAck(429), null);
  assert.equal(receiver.takeAck(430), 4);
});

test("a window that became smaller asks for an ack sooner (P9)", () => {
  const receiver = new Receiver();
  receiver.window = 1024;
  receiver.take(1, "x", 0, 20);
  assert.equal(receiver.takeAck(0), null);
  receiver.window = 64;
  assert.equal(receiver.takeAck(0), 1);
});

test("chunks that do not say their tokens count for one each (P9)", () => {
  const receiver = new Receiver();
  for (let seq = 1; seq <= 7; seq += 1) receiver.take(seq, "x", 0);
  assert.equal(receiver.takeAck(0), null);
  receiver.take(8, "x", 0);
  assert.equal(receiver.takeAck(0), 8);
});

test("what came early counts its tokens when its turn comes (P9)", () => {
  const receiver = new Receiver();
  receiver.window = 400;
  receiver.take(1, "x", 0, 1);
  receiver.takeAck(400);
  receiver.ackSettled(true, 400);
  receiver.take(2, "x", 400, 50);
  receiver.take(4, "x", 400, 150);
  assert.equal(receiver.takeAck(400), null);
  receiver.take(3, "x", 400, 90);
  assert.equal(receiver.takeAck(400), 4);
  receiver.ackSettled(true, 400);
  receiver.take(5, "x", 400, 200);
  assert.equal(receiver.takeAck(400), null);
});

test("one ack is in flight at a time", () => {
  const receiver = reader(0);
  for (let seq = 1; seq <= 30; seq += 1) receiver.take(seq, "x", 0);
  assert.equal(receiver.takeAck(0), 30);
  for (let seq = 31; seq <= 60; seq += 1) receiver.take(seq, "x", 0);
  assert.equal(receiver.takeAck(1000), null);
  assert.equal(receiver.deadline(), Infinity);
  receiver.ackSettled(true, 1000);
  assert.equal(receiver.takeAck(1000), 60);
});

test("an ack that failed goes out again, by itself if no chunk follows", () => {
  const receiver = new Receiver();
  receiver.take(1, "x", 0);
  assert.equal(receiver.takeAck(400), 1);
  receiver.ackSettled(false, 450);
  assert.equal(receiver.takeAck(450), null);
  const at = receiver.deadline();
  assert.ok(at > 450 && at < 1000, `the retry waits until ${at}`);
  assert.equal(receiver.takeAck(at), 1);
  receiver.ackSettled(true, at + 10);
  assert.equal(receiver.acked, 1);
  assert.equal(receiver.deadline(), Infinity);
});

test("the end is acknowledged at once, and is no end while chunks are missing", () => {
  const receiver = reader(4);
  receiver.take(5, "x", 2000);
  assert.equal(receiver.takeAck(2000), null);
  assert.equal(receiver.end(6, 2000), false);
  assert.equal(receiver.takeAck(2000), null);
  receiver.take(6, "x", 2001);
  assert.equal(receiver.end(6, 2001), true);
  assert.equal(receiver.takeAck(2001), 6);
});

test("a resumed reader drops what it already has", () => {
  const receiver = new Receiver(10);
  assert.equal(receiver.take(10, "old", 0), "");
  assert.equal(receiver.take(11, "new", 0), "new");
});

test("backing off grows to ten seconds, with full jitter", () => {
  assert.equal(backoff(0, () => 1), 250);
  assert.equal(backoff(3, () => 1), 2000);
  assert.equal(backoff(40, () => 1), 10_000);
  assert.equal(backoff(40, () => 0), 0);
});

/**
 * A sender that repeats the oldest unacknowledged chunk, and a network between that loses,
 * doubles and swaps chunks and acks, and breaks now and then.
 */
function run(seed) {
  const { below, chance } = random(seed);
  const chunks = Array.from({ length: 1 + below(120) }, (_, i) => `<${i + 1}>`);
  const whole = chunks.join("");
  const receiver = new Receiver();
  const loss = below(40) / 100;
  let text = "";
  let next = 1;
  let ackedAtSender = 0;
  let now = 0;
  let wire = [];

  const deliver = (seq) => {
    text += receiver.take(seq, chunks[seq - 1], now);
    assert.ok(whole.startsWith(text), `seed ${seed}: not a prefix at seq ${seq}`);
    assert.equal(text, chunks.slice(0, receiver.seq).join(""), `seed ${seed}`);
  };
  const acknowledge = () => {
    const seq = receiver.takeAck(now);
    if (seq === null) return;
    assert.equal(receiver.takeAck(now), null, `seed ${seed}: two acks in flight`);
    assert.ok(seq <= receiver.seq, `seed ${seed}: ack ${seq} of what is not here`);
    const arrives = !chance(loss);
    if (arrives) ackedAtSender = Math.max(ackedAtSender, seq);
    receiver.ackSettled(arrives && !chance(loss), now);
  };

  for (let step = 0; step < 200_000; step += 1) {
    now += below(60);
    if (next <= chunks.length && chance(0.5)) wire.push(next++);
    else if (ackedAtSender < next - 1 && chance(0.1)) wire.push(ackedAtSender + 1);
    if (wire.length > 1 && chance(0.1)) wire.push(wire.shift());
    if (wire.length && chance(0.6)) {
      const seq = wire.shift();
      if (!chance(loss)) deliver(seq);
      if (chance(0.1)) deliver(seq);
    }
    acknowledge();
    if (receiver.gapExpired(now) || chance(0.005)) {
      receiver.restarted();
      next = receiver.seq + 1;
      wire = [];
    }
    if (receiver.seq === chunks.length && receiver.end(chunks.length, now)) {
      if (receiver.acked === chunks.length) return text === whole;
    }
  }
  return false;
}

const SEEDS = process.env.LORE_SEED ? [Number(process.env.LORE_SEED)] : [...Array(400).keys()];

test("whatever the network does, the text is a prefix, and in the end all is here and acknowledged", () => {
  for (const seed of SEEDS) assert.ok(run(seed), `seed ${seed}: never complete`);
});
