/** The page of plots: gets the figures every few seconds and draws them with uPlot. */

import { BASE } from "./base.js";
import { Credentials } from "./credentials.js";
import { askForKey } from "./keydialog.js";

const EVERY_MS = 5000;
const LEAST_S = 120;
const COLOURS = { a: "--accent", b: "--amber", c: "--red", d: "--soft" };
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const byId = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const dark = matchMedia("(prefers-color-scheme: dark)");
const plots = new Map();
let shown = null;

/** A value with its unit: `s`, `ratio`, or none. */
function inWords(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "ratio") return `${(value * 100).toFixed(value && value < 0.1 ? 1 : 0)} %`;
  if (unit === "s") {
    if (value === 0) return "0";
    return value < 1 ? `${(value * 1000).toPrecision(3)} ms` : `${value.toPrecision(3)} s`;
  }
  if (value !== 0 && Math.abs(value) < 1) return value.toPrecision(2);
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}

async function headersOf() {
  const config = await (await fetch(`${BASE}/web/config.json`)).json();
  return config.auth ? new Credentials(askForKey) : null;
}

async function ask(credentials) {
  for (;;) {
    const headers = (await credentials?.headers()) ?? {};
    const answer = await fetch(`${BASE}/status/figures`, { headers });
    if (answer.status === 401 && credentials && (await credentials.refused(headers))) continue;
    if (answer.ok) return answer.json();
    throw new Error((await answer.json()).error.message);
  }
}

function draw({ times, figures, alerts }) {
  const from = beginning(times, figures);
  for (const figure of figures) {
    const plot = plots.get(figure.title) ?? make(figure);
    const values = figure.lines.map((line) => line.values.slice(from));
    plot.chart.setData([times.slice(from), ...values]);
    const words = figure.lines.map((line) => {
      const last = line.values.findLast((value) => value !== null);
      return `${line.name} ${inWords(last, figure.unit)}`;
    });
    words.forEach((said, at) => (plot.values[at].textContent = said));
    plot.chart.root.parentElement.setAttribute("aria-label", `${figure.title}: ${words.join(", ")}`);
  }
  byId("alerts").textContent = alerts.length ? `Firing: ${alerts.join(", ")}` : "No alert is firing";
  byId("alerts").classList.toggle("firing", alerts.length > 0);
}

/** The time at which to begin: before it, there are no figures. */
function beginning(times, figures) {
  const lines = figures.flatMap((figure) => figure.lines);
  const first = times.findIndex((_, at) => lines.some((line) => line.values[at] !== null));
  const last = times.findLastIndex((at) => at <= times.at(-1) - LEAST_S);
  return Math.max(0, first === -1 ? last : Math.min(first, last));
}

function make(figure) {
  const section = byId("figure").content.cloneNode(true).firstElementChild;
  section.querySelector("h2").textContent = figure.title;
  section.querySelector(".about").textContent = figure.about;
  const names = Object.keys(COLOURS);
  const values = figure.lines.map((_, at) => {
    const item = document.createElement("li");
    item.className = names[at];
    section.querySelector(".values").append(item);
    return item.appendChild(document.createElement("span"));
  });
  byId("figures").append(section);
  const room = section.querySelector(".plot");
  const chart = new uPlot(options(figure, room), [[], ...figure.lines.map(() => [])], room);
  new ResizeObserver(() => chart.setSize(sizeOf(room))).observe(room);
  const plot = { chart, values };
  plots.set(figure.title, plot);
  return plot;
}

const sizeOf = (room) => ({ width: room.clientWidth, height: room.clientHeight });

function options(figure, room) {
  const axis = {
    stroke: () => colour("--soft"),
    font: "11px Inter, system-ui, sans-serif",
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
  };
  const names = Object.values(COLOURS);
  const words = (_, splits) => splits.map((value) => inWords(value, figure.unit));
  const clock = (_, splits) => splits.map((at) => CLOCK.format(at * 1000));
  return {
    ...sizeOf(room),
    legend: { show: false },
    cursor: { points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "lore" } },
    scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
    axes: [{ ...axis, size: 24, gap: 2, space: 72, values: clock }, { ...axis, size: 56, values: words }],
    series: [
      {},
      ...figure.lines.map((line, at) => ({
        label: line.name,
        stroke: () => colour(names[at]),
        width: 1.5,
        points: { show: false },
      })),
    ],
  };
}

function complain(message) {
  byId("problem").textContent = message;
  byId("problem").hidden = !message;
}

const credentials = await headersOf();
dark.addEventListener("change", () => shown && draw(shown));
for (;;) {
  try {
    shown = await ask(credentials);
    draw(shown);
    complain("");
  } catch (error) {
    complain(error.message);
  }
  await new Promise((done) => setTimeout(done, EVERY_MS));
}
