// Reads the stream at an address with the `eventsource` package until that stops by itself, which
// it does at a 204, and says every chunk as JSON.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../examples/package.json", import.meta.url));
const { EventSource } = require("eventsource");

const Authorization = `Bearer ${process.env.LORE_API_KEY}`;
const chunks = [];
const source = new EventSource(process.argv[2], {
  fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, Authorization } }),
});
source.onmessage = ({ data }) => chunks.push(JSON.parse(data));
const alive = setInterval(() => {}, 1000); // what waits to connect again keeps no process alive
source.onerror = () => {
  if (source.readyState !== EventSource.CLOSED) return;
  clearInterval(alive);
  console.log(JSON.stringify(chunks));
};
