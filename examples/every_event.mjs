import { setTimeout as sleep } from "node:timers/promises";

import OpenAI from "openai";

const ENDS = ["response.completed", "response.incomplete", "response.failed"];

/**
 * Every event of a response but the first (which only says what create() has said), each once
 * and in order, whatever is cut meanwhile. Throws what is no cut.
 */
export async function* everyEvent(client, responseId, options = {}) {
  for (let last = 0; ; await sleep(1000, undefined, options)) {
    try {
      // Whichever edge answers goes on after the last event that came.
      const query = { stream: true, starting_after: last };
      for await (const event of await client.responses.retrieve(responseId, query, options)) {
        last = event.sequence_number;
        yield event;
        if (ENDS.includes(event.type)) return;
      }
      if (options.signal?.aborted) return;
    } catch (error) {
      // A connection that does not come about is the one, one that breaks off is the other.
      if (!(error instanceof OpenAI.APIConnectionError || error instanceof TypeError)) throw error;
    }
  }
}
