// The tree NPDC, MDCs, homes. A home is a dot that moves to its MDC; many homes are a bar and a count.

import { calm, clock, say, set, svg } from "./elements.js";

const DOTS = 300, ROOMY = 40, GAP = 12, DOT = 11, TOP = 54;
export const MARK = { serving: "●", starting: "◌", dead: "✕", waiting: "◷", stopped: "■" };

export function ids(text) {
  if (!text) return [];
  return text.split(",").flatMap((part) => {
    const [low, high] = part.split("-").map(Number);
    return Array.from({ length: (high ?? low) - low + 1 }, (_, i) => low + i);
  });
}

export function stateWords(center) {
  if (center.state === "waiting") return `waits until ${clock(center.until)}`;
  return center.state;
}

export class Tree {
  constructor(parent) {
    this.parent = parent;
    this.links = svg("g"); this.centers = svg("g"); this.homes = svg("g"); this.flying = svg("g");
    this.canvas = svg("svg", { role: "img" }, this.links, this.centers, this.homes, this.flying);
    parent.append(this.canvas);
    this.cards = new Map(); this.dots = new Map(); this.lines = new Map();
    this.shown = null;
    new ResizeObserver(() => {
      if (this.shown && this.parent.clientWidth !== this.width) this.draw(this.shown);
    }).observe(parent);
  }

  draw(tree) {
    const before = this.shown;
    this.shown = tree;
    this.width = this.parent.clientWidth || 800;
    const place = this.arrange(tree);
    set(this.canvas, { viewBox: `0 0 ${this.width} ${place.height}`, height: place.height,
      "aria-label": inWords(tree) });
    this.drawRoot(tree.npdc);
    this.drawCards(tree, place);
    this.drawTray(tree.waiting, place);
    if (place.dots) this.drawDots(tree, place);
    else {
      this.dots.forEach((dot) => dot.remove()); this.dots.clear();
      if (before) this.fly(before, tree, place);
    }
  }

  arrange(tree) {
    const count = Math.max(1, tree.mdcs.length);
    const roomy = count <= ROOMY;
    const least = roomy ? 140 : 78;
    const columns = Math.min(count, Math.max(1, Math.floor((this.width + GAP) / (least + GAP))));
    const card = Math.min(220, (this.width - (columns - 1) * GAP) / columns);
    const all = tree.mdcs.reduce((sum, m) => sum + m.homes, tree.waiting.homes);
    const dots = roomy && all <= DOTS && tree.mdcs.every((m) => m.homes === 0 || (m.ids && !m.ids.includes("…")));
    const perRow = Math.max(1, Math.floor((card - 16) / DOT));
    const most = Math.max(1, ...tree.mdcs.map((m) => m.homes));
    // Room for what comes while an MDC is dead, so that cards do not jump in size meanwhile.
    const dotRows = dots ? Math.max(this.dotRows ?? 1, Math.ceil(Math.min(all, most * 1.5) / perRow)) : 0;
    this.dotRows = dotRows;
    const tall = roomy ? 76 + (dots ? dotRows * DOT : 14) : 40;
    const lines = Math.ceil(count / columns);
    const start = (this.width - columns * card - (columns - 1) * GAP) / 2;
    const top = TOP + (lines <= 2 ? 40 : 20);
    const spots = tree.mdcs.map((_, i) => ({
      x: start + (i % columns) * (card + GAP), y: top + Math.floor(i / columns) * (tall + GAP * 2),
    }));
    const bottom = top + lines * (tall + GAP * 2);
    const tray = tree.waiting.homes ? 24 + (dots ? Math.ceil(tree.waiting.homes * DOT / this.width) * DOT : 0) : 0;
    return { roomy, card, tall, dots, perRow, spots, lines, bottom, height: bottom + tray };
  }

  drawRoot(npdc) {
    if (!this.root) {
      this.root = svg("g", { class: "center", "data-role": "npdc" }, svg("rect", { class: "box", rx: 8, height: 48, y: 2 }),
        svg("text", { class: "name", y: 22, "text-anchor": "middle" }),
        svg("text", { class: "state", y: 39, "text-anchor": "middle" }), svg("title"));
      this.centers.append(this.root);
    }
    const [box, name, state, title] = this.root.children;
    const wide = Math.min(300, this.width);
    set(this.root, { "data-state": npdc.state, "data-incarnation": npdc.incarnation });
    set(box, { x: (this.width - wide) / 2, width: wide });
    set(name, { x: this.width / 2 }); set(state, { x: this.width / 2 });
    say(name, `North Pole (NPDC) · incarnation ${npdc.incarnation}`);
    say(state, short(`${MARK[npdc.state]} ${stateWords(npdc)}${npdc.node ? ` · ${npdc.node}` : ""}`, wide));
    say(title, npdc.why ?? npdc.node ?? "");
  }

  drawCards(tree, place) {
    const wanted = new Set(tree.mdcs.map((m) => m.mdc));
    for (const [index, card] of this.cards) {
      if (wanted.has(index)) continue;
      card.remove(); this.cards.delete(index);
      this.lines.get(index)?.remove(); this.lines.delete(index);
    }
    const most = Math.max(1, ...tree.mdcs.map((m) => m.homes));
    tree.mdcs.forEach((mdc, i) => {
      let card = this.cards.get(mdc.mdc);
      if (!card) {
        card = svg("g", { class: "center", "data-role": "mdc", "data-mdc": mdc.mdc },
          svg("rect", { class: "box", rx: 8 }), svg("text", { class: "name", x: 8 }), svg("text", { class: "state", x: 8 }),
          svg("text", { class: "soft", x: 8 }), svg("rect", { class: "bar-ground", x: 8, height: 8, rx: 2 }),
          svg("rect", { class: "bar", x: 8, height: 8, rx: 2 }), svg("title"));
        this.cards.set(mdc.mdc, card);
        this.centers.append(card);
      }
      this.fillCard(card, mdc, place, place.spots[i], most);
      this.drawLink(mdc, place, place.spots[i]);
    });
  }

  fillCard(card, mdc, place, spot, most) {
    const [box, name, state, under, ground, bar, title] = card.children;
    set(card, { "data-state": mdc.state, "data-incarnation": mdc.incarnation, "data-homes": mdc.homes,
      transform: `translate(${spot.x} ${spot.y})` });
    set(box, { width: place.card, height: place.tall });
    const ready = mdc.ready === undefined || mdc.ready === mdc.homes ? "" : `, ${mdc.ready} ready`;
    const homes = `${mdc.homes} ${mdc.homes === 1 ? "home" : "homes"}`;
    if (place.roomy) {
      set(name, { y: 19 }); set(state, { y: 36 }); set(under, { y: 53 });
      say(name, `MDC ${mdc.mdc} · incarnation ${mdc.incarnation}`);
      say(state, short(`${MARK[mdc.state]} ${stateWords(mdc)}`, place.card));
      say(under, short([homes + ready, mdc.node].filter(Boolean).join(" · "), place.card));
    } else {
      set(name, { y: 15 }); set(state, { y: 15, x: place.card - 18 }); set(under, { y: 29 });
      say(name, `${mdc.mdc} · ${mdc.incarnation}`);
      say(state, MARK[mdc.state]); say(under, "");
    }
    const hidden = place.dots ? "hidden" : "visible", y = place.tall - (place.roomy ? 18 : 14);
    set(ground, { visibility: hidden, y, width: place.card - 16 });
    set(bar, { visibility: hidden, y });
    bar.style.width = `${(place.card - 16) * mdc.homes / most}px`;
    say(title, `MDC ${mdc.mdc}, incarnation ${mdc.incarnation}: ${stateWords(mdc)}, ${homes}${ready}`
      + (mdc.node ? `, node ${mdc.node}` : "") + (mdc.zone ? `, zone ${mdc.zone}` : "") + (mdc.why ? `. ${mdc.why}` : ""));
  }

  drawLink(mdc, place, spot) {
    let line = this.lines.get(mdc.mdc);
    if (place.lines > 2) { line?.remove(); this.lines.delete(mdc.mdc); return; }
    if (!line) {
      line = svg("path", { class: "link" });
      this.lines.set(mdc.mdc, line);
      this.links.append(line);
    }
    const from = this.width / 2, to = spot.x + place.card / 2, middle = (TOP + spot.y) / 2;
    set(line, { "data-state": mdc.state, d: `M${from} ${TOP - 4}C${from} ${middle} ${to} ${middle} ${to} ${spot.y}` });
  }

  drawTray(waiting, place) {
    if (!this.tray) {
      this.tray = svg("text", { class: "soft", x: 0, "data-role": "tray" });
      this.centers.append(this.tray);
    }
    set(this.tray, { y: place.bottom + 10 });
    say(this.tray, waiting.homes ? `${waiting.homes} homes wait for an MDC` : "");
  }

  drawDots(tree, place) {
    const seen = new Set();
    const put = (home, x, y, where, stranded) => {
      seen.add(home);
      let dot = this.dots.get(home);
      if (!dot) {
        dot = svg("circle", { class: "home", r: 4, "data-home": home });
        this.dots.set(home, dot);
        this.homes.append(dot);
      }
      set(dot, { "data-at": where, "data-stranded": stranded ? "" : null });
      dot.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
    };
    tree.mdcs.forEach((mdc, i) => ids(mdc.ids).forEach((home, n) => put(home,
      place.spots[i].x + 13 + (n % place.perRow) * DOT, place.spots[i].y + 66 + Math.floor(n / place.perRow) * DOT,
      mdc.mdc, mdc.state === "dead")));
    const perLine = Math.max(1, Math.floor((this.width - 10) / DOT));
    ids(tree.waiting.ids).forEach((home, n) => put(home, 5 + (n % perLine) * DOT,
      place.bottom + 22 + Math.floor(n / perLine) * DOT, "waiting", false));
    for (const [home, dot] of this.dots) {
      if (!seen.has(home)) { dot.remove(); this.dots.delete(home); }
    }
  }

  // Many homes move as bundles, from who has fewer now to who has more.
  fly(before, tree, place) {
    if (calm()) return;
    const had = new Map(before.mdcs.map((m) => [m.mdc, m.homes]));
    const spot = (i) => [place.spots[i].x + place.card / 2, place.spots[i].y + place.tall - 10];
    const changes = tree.mdcs.map((m, i) => ({ at: spot(i), by: m.homes - (had.get(m.mdc) ?? 0) }));
    changes.push({ at: [40, place.bottom], by: tree.waiting.homes - before.waiting.homes });
    const from = changes.filter((c) => c.by < 0).map((c) => ({ ...c })), to = changes.filter((c) => c.by > 0).map((c) => ({ ...c }));
    for (let bundles = 0; from.length && to.length && bundles < 60; bundles++) {
      const count = Math.min(-from[0].by, to[0].by);
      this.bundle(from[0].at, to[0].at, count);
      from[0].by += count; to[0].by -= count;
      if (!from[0].by) from.shift();
      if (!to[0].by) to.shift();
    }
  }

  bundle([x0, y0], [x1, y1], count) {
    const wide = 12 + 7 * String(count).length;
    const made = svg("g", { class: "bundle" }, svg("rect", { x: -wide / 2, y: -9, width: wide, height: 18, rx: 9 }),
      svg("text", { y: 4 }, String(count)));
    made.style.transform = `translate(${x0}px, ${y0}px)`;
    this.flying.append(made);
    requestAnimationFrame(() => requestAnimationFrame(() => { made.style.transform = `translate(${x1}px, ${y1}px)`; }));
    setTimeout(() => made.remove(), 1100);
  }
}

function short(text, width) {
  const most = Math.floor((width - 14) / 6.4);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function inWords(tree) {
  const states = new Map();
  tree.mdcs.forEach((m) => states.set(m.state, (states.get(m.state) ?? 0) + 1));
  const mdcs = [...states].map(([state, count]) => `${count} ${state}`).join(", ") || "none";
  return `North Pole data center: ${tree.npdc.state}. Mini-data-centers: ${mdcs}. Homes: ${tree.homes.ready} of `
    + `${tree.homes.desired} ready, ${tree.waiting.homes} wait for an MDC.`;
}
