// The two packages of npm that many put in front of a server: `express.mjs PORT EDGE_PORT`.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../examples/package.json", import.meta.url));
const express = require("express");
const compression = require("compression");
const { createProxyMiddleware } = await import(require.resolve("http-proxy-middleware"));

const [port, edge] = process.argv.slice(2);
const app = express();
app.use(compression());
app.use(createProxyMiddleware({ target: `http://127.0.0.1:${edge}` }));
app.listen(Number(port), "127.0.0.1");
