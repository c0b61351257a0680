// Making and changing elements. Data only ever becomes text or an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function html(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  set(element, attributes);
  element.append(...children);
  return element;
}

// Writes only what differs: most of a page stays as it is from one second to the next.
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
}

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Rows of cells that are text, or {text, kind, link}. A row whose words are the same is not touched.
export function rows(body, wanted) {
  wanted.forEach((cells, place) => {
    const key = JSON.stringify(cells);
    const old = body.children[place];
    if (old && old.rowKey === key) return;
    const made = html("tr", {}, ...cells.map(cell));
    made.rowKey = key;
    if (old) old.replaceWith(made);
    else body.append(made);
  });
  while (body.children.length > wanted.length) body.lastElementChild.remove();
}

function cell(content, place) {
  const { text, kind, link } = typeof content === "object" && content !== null ? content : { text: content };
  const words = text === null || text === undefined || text === "" ? "–" : String(text);
  const made = place === 0 ? html("th", { scope: "row" }) : html("td");
  if (kind) made.className = kind;
  made.append(link ? html("a", { href: link }, words) : words);
  return made;
}

export function pairs(list, wanted) {
  const key = JSON.stringify(wanted);
  if (list.pairsKey === key) return;
  list.pairsKey = key;
  const grouped = list.classList.contains("figures");
  list.replaceChildren(...wanted.flatMap(([name, value]) => {
    const both = [html("dt", {}, name), html("dd", {}, value)];
    return grouped ? [html("div", {}, ...both)] : both;
  }));
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function clock(seconds) {
  return seconds ? new Date(seconds * 1000).toLocaleTimeString() : "–";
}

export function figure(value, digits = 4) {
  return value === null || value === undefined ? "–" : String(Number(value.toPrecision(digits)));
}

export function elapsed(seconds) {
  if (seconds < 100) return `${figure(seconds, 3)} s`;
  if (seconds < 6000) return `${figure(seconds / 60, 3)} min`;
  return seconds < 360000 ? `${figure(seconds / 3600, 3)} h` : `${figure(seconds / 86400, 3)} d`;
}
