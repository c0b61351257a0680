// Asks once a second, and shows it. Trees are shown one after the other, so that what was there for a
// moment only, such as a dead data center, is seen too.

import { Chart } from "./charts.js";
import { byId, calm, clock, elapsed, figure, pairs, rows, say, set } from "./elements.js";
import { MARK, Tree, stateWords } from "./tree.js";

const POLL = 1000, PATIENCE = 5000, DWELL = 1000, BACKLOG = 6;
const STATES = { Running: "serving", Complete: "serving", Degraded: "starting", Pending: "starting", Failed: "dead", Suspended: "stopped" };

let view = null;      // what is shown of one job; null: the list
let heard = null;     // when the last answer came
let asking = null;    // the question under way

class JobView {
  constructor(path) {
    this.path = path;
    this.frame = 0; this.queue = []; this.playing = null; this.last = null; this.came = null;
    byId("tree").replaceChildren(); byId("charts").replaceChildren(); say(byId("news"), "");
    this.tree = new Tree(byId("tree"));
    this.charts = ["loss", "metric", "roundsPerSecond"].map((column) => new Chart(byId("charts"), column));
  }

  close() { clearTimeout(this.playing); }

  show(job) {
    // Another job of this name has come: nothing of the old one is played any more.
    if (this.came && job.startTime !== this.came && job.startTime) { this.queue = []; this.last = null; }
    this.came = job.startTime ?? this.came;
    this.frame = job.frame;
    this.queue.push(...job.frames);
    this.shorten();
    if (this.playing === null) this.play();
    showFigures(job);
    this.charts.forEach((chart, i) => chart.draw(job.history,
      [`loss`, job.history.metric || "metric", "rounds per second"][i], i + 2));
  }

  // A page that was asleep does not play everything it has missed.
  shorten() {
    while (this.queue.length > BACKLOG) {
      const dull = this.queue.findIndex((f) => !f.tree.mdcs.some((m) => m.state === "dead" || m.state === "waiting"));
      this.queue.splice(dull >= 0 && dull < this.queue.length - 1 ? dull : 0, 1);
    }
  }

  play() {
    const next = this.queue.shift();
    if (!next) { this.playing = null; return; }
    this.tree.draw(next.tree);
    showCenters(next.tree);
    this.tell(next.tree);
    this.last = next.tree;
    this.playing = setTimeout(() => this.play(), calm() ? DWELL / 2 : DWELL);
  }

  tell(tree) {
    if (!this.last) return;
    const news = changes(this.last, tree);
    if (news.length) say(byId("news"), news.join(" "));
  }
}

function changes(before, tree) {
  const old = new Map(before.mdcs.map((m) => [m.mdc, m]));
  const found = tree.mdcs.map((m) => [`MDC ${m.mdc}`, old.get(m.mdc), m]);
  found.push(["The North Pole data center", before.npdc, tree.npdc]);
  const dead = (c) => c.state === "dead" || c.state === "waiting";
  const news = [];
  for (const [name, was, is] of found) {
    if (!was) continue;
    if (dead(was) && dead(is) && is.why && !was.why) {
      news.push(`✕ ${name} is dead (${is.why.split(":")[0]}).`);
    } else if (!dead(was) && (dead(is) || (is.incarnation > was.incarnation && is.state !== "serving"))) {
      news.push(`✕ ${name} is dead${is.why ? ` (${is.why.split(":")[0]})` : ""}.`);
    } else if (is.state === "serving" && was.state !== "serving") {
      news.push(`● ${name} serves, incarnation ${is.incarnation}.`);
    }
  }
  const more = news.length - 4;
  return more > 0 ? [...news.slice(0, 4), `And ${more} more.`] : news;
}

function showFigures(job) {
  document.title = `${job.job}: ${job.state} – Elf training`;
  say(byId("job-name"), job.job);
  const state = byId("job-state");
  say(state, job.state);
  set(state, { class: `badge ${STATES[job.state] ?? ""}`, "data-state": job.state });
  say(byId("job-sentence"), sentence(job));
  set(byId("job-progress"), { max: job.rounds ?? 1, value: job.round });
  const tree = job.tree, serving = tree.mdcs.filter((m) => m.state === "serving").length;
  const metrics = Object.entries(job.metrics);
  pairs(byId("job-figures"), [
    ["Round", job.rounds ? `${job.round} of ${job.rounds}` : String(job.round)],
    ["Loss", figure(job.loss)],
    ...metrics.map(([name, value]) => [
      job.target?.metric === name ? `${name} (wanted ${job.target.atLeast})` : name, value]),
    ["Rounds per second", figure(job.roundsPerSecond, 3)],
    ["Homes ready", job.homes ?? "–"],
    ...(tree.homes.absent ? [["Homes absent", String(tree.homes.absent)]] : []),
    ["MDCs", job.miniDataCenters ?? `${serving} of ${tree.mdcs.length}`],
    ["Replaced", String(job.replaced)],
    ...(job.exact === null ? [] : [["Exact", job.exact ? "yes" : "no"]]),
  ]);
  pairs(byId("statistics"), [
    ...Object.entries(job.statistics).map(([name, words]) => [name.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`), words]),
    ...(job.missing ? [["missing homes", `${job.missing.count}: ${job.missing.homes}`]] : []),
    ...(job.modelDigest ? [["model", job.modelDigest]] : []),
  ]);
  showFaults(job);
  rows(byId("condition-rows"), job.conditions.map((c) =>
    [c.type, c.status, c.reason, c.message, c.lastTransitionTime]));
}

function sentence(job) {
  const held = (type) => job.conditions.find((c) => c.type === type && c.status === "True");
  return (held("Failed") ?? held("Complete") ?? held("Suspended") ?? held("Degraded")
    ?? job.conditions.find((c) => c.type === "Ready"))?.message ?? "";
}

function showFaults(job) {
  const told = new Map(job.replacements.map((r) => [`${r.pod} ${r.time}`, r]));
  const faults = job.history.faults.map((f) => told.get(`${f.pod} ${f.time}`) ?? f).reverse();
  byId("no-faults").hidden = faults.length > 0;
  byId("faults").hidden = faults.length === 0;
  rows(byId("fault-rows"), faults.map((f) => [clock(f.time), f.pod, f.reason,
    { text: f.recoverySeconds === null ? "not yet" : elapsed(f.recoverySeconds), kind: "figure" }, f.message]));
}

function showCenters(tree) {
  const row = (name, c) => [name, { text: `${MARK[c.state]} ${stateWords(c)}`, kind: c.state },
    { text: c.incarnation, kind: "figure" }, c.node, c.zone, { text: c.homes, kind: "figure" },
    { text: c.ready, kind: "figure" }, c.ids];
  rows(byId("center-rows"), [row("NPDC", tree.npdc), ...tree.mdcs.map((m) => row(`MDC ${m.mdc}`, m)),
    ...(tree.waiting.homes ? [["No MDC yet", "", "", "", "", { text: tree.waiting.homes, kind: "figure" }, "", tree.waiting.ids]] : [])]);
}

function showJobs(answer) {
  document.title = "Elf training";
  notice(answer.count ? "" : "There are no jobs. They show here as soon as there are.");
  byId("jobs").hidden = answer.count === 0;
  rows(byId("job-rows"), answer.jobs.map((j) => [
    { text: j.job, link: `#${encodeURIComponent(j.namespace)}/${encodeURIComponent(j.job)}` }, j.namespace,
    { text: j.state, kind: STATES[j.state] },
    ...[j.rounds ? `${j.round}/${j.rounds}` : j.round, figure(j.loss)].map((text) => ({ text, kind: "figure" })),
    j.metric, ...[j.homes, j.miniDataCenters, j.replaced].map((text) => ({ text, kind: "figure" }))]));
  const more = answer.count - answer.jobs.length;
  byId("more-jobs").hidden = more <= 0;
  say(byId("more-jobs"), more > 0 ? `And ${more} more, not shown.` : "");
}

function notice(text) {
  byId("notice").hidden = !text;
  say(byId("notice"), text);
}

function connection(state, text) {
  set(byId("connection"), { "data-state": state });
  say(byId("connection"), text);
  byId("main").classList.toggle("lost-view", state === "lost");
}

// `#namespace/job`, or nothing for the list. An only job is shown at once.
function wanted() {
  const parts = location.hash.slice(1).split("/");
  return parts.length === 2 && parts[0] && parts[1] ? parts.join("/") : null;
}

async function ask(path) {
  asking = new AbortController();
  const timer = setTimeout(() => asking.abort(), PATIENCE);
  try {
    const answer = await fetch(path, { signal: asking.signal, cache: "no-store" });
    return answer.status === 404 ? null : answer.ok ? await answer.json() : Promise.reject(new Error(answer.status));
  } finally {
    clearTimeout(timer);
  }
}

function turnTo(path) {
  if ((view?.path ?? null) === path) return;
  view?.close();
  view = path ? new JobView(path) : null;
  byId("crumbs").hidden = !path;
  byId("jobs").hidden = true; byId("job").hidden = true;
  notice("");
}

async function look() {
  const path = wanted();
  turnTo(path);
  if (!path) {
    const answer = await ask("api/jobs");
    if (wanted()) return;
    if (answer.count === 1 && !byId("main").dataset.list) {
      const [only] = answer.jobs;
      location.replace(`#${encodeURIComponent(only.namespace)}/${encodeURIComponent(only.job)}`);
    } else showJobs(answer);
    return;
  }
  const job = await ask(`api/jobs/${path}?after=${view.frame}`);
  if (wanted() !== path) return;
  byId("job").hidden = job === null;
  notice(job === null ? "This job is not there (any more)." : "");
  if (job !== null) view.show(job);
}

async function turn() {
  try {
    await look();
    heard = Date.now();
    connection("live", "Live");
  } catch {
    const since = heard ? ` What is shown is of ${new Date(heard).toLocaleTimeString()}.` : "";
    connection("lost", `Connection lost; asking again.${since}`);
  }
  setTimeout(turn, POLL);
}

addEventListener("hashchange", () => {
  if (!wanted()) byId("main").dataset.list = "asked for";
  turnTo(wanted());
  look().catch(() => {});  // the next turn says so
});
turn();
