"use strict";
// What the page does beyond being read: tables sort and filter, two systems are compared query by query.
// Data goes in as text (textContent), never as markup; nothing is fetched and nothing is kept.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Four digits as C's printf and Python write them: a value exactly half-way goes to the even digit.
function fixed(value) {
  if (!Number.isFinite(value)) return "–";
  const scaled = Math.abs(value) * 10000;
  const halfway = Number.isInteger(value * 2 ** 20) && scaled % 1 === 0.5;
  const even = Math.floor(scaled) + (Math.floor(scaled) % 2);
  const text = halfway ? (even / 10000).toFixed(4) : Math.abs(value).toFixed(4);
  return value < 0 && Number(text) !== 0 ? "−" + text : text;
}

const signed = (value) => (value > 0 ? "+" : "") + fixed(value);
const plain = (text) => text.normalize("NFKC").toLowerCase();
const includesAll = (text, words) => plain(words).split(/\s+/).every((word) => plain(text).includes(word));

// Tables: a click on a head sorts (numbers from the largest, words from A), a third one brings the first order back.

function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.querySelector(".hidden")) return; // the letters are in the first order
    const cells = original.map((row) => row.cells[column]);
    const numeric = cells.some((cell) => cell.dataset.value !== undefined);
    const key = (row) => (numeric ? Number(row.cells[column].dataset.value ?? NaN) : row.cells[column].textContent);
    const button = element("button", { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const cycle = numeric ? ["descending", "ascending", null] : ["ascending", "descending", null];
      const next = cycle[cycle.indexOf(head.getAttribute("aria-sort") ?? null) + 1] ?? (head.hasAttribute("aria-sort") ? null : cycle[0]);
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      table.classList.toggle("sorted", next !== null);
      const direction = next === "descending" ? -1 : 1;
      const compare = (one, two) => {
        const [a, b] = [key(one), key(two)];
        if (!numeric) return direction * a.localeCompare(b, undefined, { numeric: true });
        return Number.isNaN(a) - Number.isNaN(b) || direction * (a - b) || 0; // rows without a value come last, either way
      };
      body.append(...(next ? [...original].sort(compare) : original));
    });
  });
}

function filters(tables) {
  const [text, kind, clear, shown] = ["filter", "kind", "clear", "shown"].map(byId);
  const empty = tables.map((table) => {
    const note = element("p", { className: "nothing", hidden: true }, "No row matches the filter.");
    table.after(note);
    return note;
  });
  const apply = () => {
    const known = new Set();
    const matching = new Set();
    tables.forEach((table, number) => {
      let visible = 0;
      for (const row of table.tBodies[0].rows) {
        const names = all("[data-system]", row);
        const fits = (cell) => includesAll(cell.dataset.system, text.value) && (!kind.value || cell.dataset.kind === kind.value);
        for (const cell of names) {
          known.add(cell.dataset.system);
          if (fits(cell)) matching.add(cell.dataset.system);
        }
        row.hidden = !names.some(fits);
        visible += !row.hidden;
      }
      empty[number].hidden = visible > 0 || table.tBodies[0].rows.length === 0;
    });
    clear.hidden = !text.value && !kind.value;
    shown.textContent = clear.hidden ? `${known.size} systems` : `${matching.size} of ${known.size} systems`;
  };
  text.addEventListener("input", apply);
  kind.addEventListener("input", apply);
  clear.addEventListener("click", () => {
    text.value = kind.value = "";
    apply();
    text.focus();
  });
  apply(); // a reloaded page may remember what was typed
  byId("filters").hidden = false;
}

// Query by query: values are numbers into a list of the distinct ones, packed in base64.

function unpacked(packed, system) {
  const bytes = Uint8Array.from(atob(packed.codes[system]), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const length = bytes.length / packed.bytes;
  return Float64Array.from({ length }, (_, i) => packed.levels[packed.bytes === 1 ? bytes[i] : view.getUint16(2 * i, true)]);
}

function comparison(data) {
  const [sideA, sideB, evalSet, measure, way, find] = ["side-a", "side-b", "eval-set", "measure", "way", "find"].map(byId);
  const PAGE = 10;
  let many = PAGE;
  let redraw = () => {};

  const options = (select, names, chosen) => {
    select.replaceChildren(...names.map((name) => element("option", { value: name, textContent: name, dir: "auto" })));
    if (names.includes(chosen)) select.value = chosen;
  };
  const setOf = () => data.evalSets[Math.max(0, evalSet.selectedIndex)];
  const isStudent = (name) => data.kinds[data.systems.indexOf(name)] === "student";

  function chooseSet() {
    const set = setOf();
    const known = (c) => set.systems.includes(c.a) && set.systems.includes(c.b) && c.planned;
    const planned = set.contrasts.filter(known);
    const best = planned.findLast((c) => isStudent(c.a) && isStudent(c.b)) ?? planned.at(-1) ?? { a: set.systems[1], b: set.systems[0] };
    const keep = set.systems.includes(sideA.value) && set.systems.includes(sideB.value);
    options(sideA, set.systems, keep ? sideA.value : best.a);
    options(sideB, set.systems, keep ? sideB.value : best.b);
    options(measure, Object.keys(set.values), measure.value);
    [evalSet, measure].forEach((select) => (select.parentElement.hidden = select.options.length < 2));
    show();
  }

  function show() {
    const set = setOf();
    const packed = set.values[measure.value];
    const [a, b] = [sideA.value, sideB.value];
    const [valuesA, valuesB] = [a, b].map((name) => unpacked(packed, set.systems.indexOf(name)));
    const difference = valuesA.map((value, i) => value - valuesB[i]);
    const ranked = [...difference.keys()].sort((i, j) => Math.abs(difference[j]) - Math.abs(difference[i]) || i - j);
    const counts = [1, 0, -1].map((sign) => ranked.filter((i) => Math.sign(difference[i]) === sign).length);
    verdicts(set, a, b, counts);
    redraw = () => byId("differences").replaceChildren(...picture(difference, a, b, counts));
    redraw();
    list(set, a, b, valuesA, valuesB, difference, ranked);
    remarks(set, packed);
  }

  function verdicts(set, a, b, counts) {
    const rows = set.rows[measure.value];
    const test = set.contrasts.find((c) => c.measure === measure.value && ((c.a === a && c.b === b) || (c.a === b && c.b === a)));
    const lines = [
      [element("span", { className: "a-side" }, "A: ", name(a)), `${measure.value} ${fixed(rows[a])}`],
      [element("span", { className: "b-side" }, "B: ", name(b)), `${measure.value} ${fixed(rows[b])}`],
      ["A − B", signed(rows[a] - rows[b])],
      ["queries", `A better on ${counts[0]}, equal on ${counts[1]}, B better on ${counts[2]}`],
    ];
    if (a === b) lines.push(["test", "A and B are the same system; choose another one."]);
    else if (!test) lines.push(["test", "None was planned for this pair and measure: look, but do not conclude."]);
    else {
      const said = `${test.difference} ${test.ci95}, p (Holm) ${test.p}: ${test.verdict}`;
      lines.push([test.planned ? "planned contrast" : "exploratory", element("span", {}, name(test.a), " against ", name(test.b), `: ${said}`)]);
    }
    const terms = lines.flatMap(([term, words]) => [element("dt", {}, term), element("dd", {}, words)]);
    byId("verdicts").replaceChildren(...terms);
  }

  const name = (text) => element("bdi", { textContent: text });

  function remarks(set, packed) {
    const said = [];
    const kept = set.queries.length;
    if (kept < set.total) said.push(`This page holds the ${kept} of ${set.total} queries on which systems differ most; counts are of those.`);
    if (packed.rounded !== null) said.push(`Values of each query are rounded to ${packed.rounded} digits here, so a small difference may count as equal.`);
    if (set.leftOut.length) said.push(`Not on this page: ${set.leftOut.join(", ")}; see per_query/.`);
    if (!data.hasTexts) said.push("The text of queries and passages is not in this folder (texts.json): mta4dpr-bench run writes it while the corpus is at hand.");
    else said.push("The first passages are kept for the queries on which a pair differs most by the primary measure; long texts are cut.");
    if (data.note) said.push(data.note);
    byId("remarks").replaceChildren(...said.map((text) => element("li", { textContent: text })));
  }

  function list(set, a, b, valuesA, valuesB, difference, ranked) {
    const sign = Number(way.value);
    const text = (i) => `${set.queries[i]} ${set.texts?.[i] ?? ""}`;
    const wanted = ranked.filter((i) => (sign ? Math.sign(difference[i]) === sign : difference[i] !== 0) && includesAll(text(i), find.value));
    const items = wanted.slice(0, many).map((i) => {
      const words = set.texts?.[i] ? element("span", { dir: "auto", textContent: set.texts[i] }) : element("code", { dir: "auto", textContent: set.queries[i] });
      words.classList.add("words");
      const values = element("span", { className: "values" }, `A ${fixed(valuesA[i])} · B ${fixed(valuesB[i])}`);
      const by = element("span", { className: `by ${difference[i] > 0 ? "a" : "b"}-side`, textContent: signed(difference[i]) });
      const details = element("details", {}, element("summary", {}, by, words, values));
      details.append(sides(set, i, a, b));
      return element("li", {}, details);
    });
    byId("queries").replaceChildren(...items);
    byId("more").hidden = wanted.length <= many;
    byId("found").textContent = `${items.length} of ${wanted.length} queries`;
  }

  function sides(set, i, a, b) {
    const found = [[a, "a-side", "A"], [b, "b-side", "B"]].map(([system, className, letter]) => {
      const hits = set.hits[system]?.[i];
      const passages = hits?.length ? element("ol", {}, ...hits.map(passage)) : element("p", { className: "nothing" }, hits ? "found nothing" : "first passages not kept");
      return element("div", {}, element("h4", { className }, `${letter}: `, name(system)), passages);
    });
    return element("div", { className: "sides" }, element("p", {}, "query ", element("code", { dir: "auto", textContent: set.queries[i] })), ...found);
  }

  function passage([number, relevance]) {
    const [id, title, text] = data.passages[number];
    const item = element("li", {});
    if (relevance !== null) {
      const words = relevance > 0 ? `relevant (${relevance})` : `judged ${relevance}`;
      item.append(element("span", { className: "judged", textContent: words }), " ");
    }
    if (title) item.append(element("strong", { dir: "auto", textContent: title }), " ");
    if (text) item.append(element("span", { dir: "auto", textContent: text }), " ");
    item.append(element("code", { dir: "auto", textContent: id }));
    return item;
  }

  // Every query's difference, from A's largest win to B's: one step a query.
  function picture(difference, a, b, counts) {
    const largest = difference.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (!largest) return [];
    const width = Math.min(760, Math.max(300, byId("differences").clientWidth || 720));
    const [left, middle, half] = [58, 90, 70];
    const sorted = [...difference].sort((one, two) => two - one);
    const x = (i) => left + ((width - left) * i) / sorted.length;
    const y = (value) => middle - (half * value) / largest;
    const area = (from, to) => {
      const steps = sorted.slice(from, to).map((value, i) => `V${y(value).toFixed(2)}H${x(from + i + 1).toFixed(2)}`);
      return `M${x(from).toFixed(2)} ${middle}${steps.join("")}V${middle}Z`;
    };
    const drawn = (tag, attributes, text = "") => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
      made.textContent = text;
      return made;
    };
    const words = `Difference in ${measure.value} on each query, sorted: ${a} is better on ${counts[0]}, ${b} on ${counts[2]}, equal on ${counts[1]}`;
    const svg = drawn("svg", { class: "differences", viewBox: `0 0 ${width} 182`, role: "img", "aria-label": words });
    svg.append(
      drawn("path", { class: "a", d: area(0, counts[0]) }),
      drawn("path", { class: "b", d: area(counts[0] + counts[1], sorted.length) }),
      drawn("line", { x1: left, x2: width, y1: middle, y2: middle }),
      ...[largest, 0, -largest].map((value) => drawn("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, value ? signed(value) : "0")),
    );
    if (counts[0]) svg.append(drawn("text", { x: left + 4, y: middle + 18 }, `A better: ${counts[0]}`));
    if (counts[2]) svg.append(drawn("text", { x: width - 2, y: middle - 9, "text-anchor": "end" }, `B better: ${counts[2]}`));
    return [svg];
  }

  const again = () => {
    many = PAGE;
    show();
  };
  options(evalSet, data.evalSets.map((set) => set.id));
  [sideA, sideB, measure, way, find].forEach((control) => control.addEventListener("input", again));
  evalSet.addEventListener("input", () => {
    many = PAGE;
    chooseSet();
  });
  byId("swap").addEventListener("click", () => {
    [sideA.value, sideB.value] = [sideB.value, sideA.value];
    again();
  });
  byId("more").addEventListener("click", () => {
    many += PAGE;
    show();
    byId("queries").children[many - PAGE]?.querySelector("summary").focus();
  });
  byId("comparison").hidden = false;
  chooseSet();
  addEventListener("resize", () => redraw()); // the picture is as wide as the page
}

const tables = all("table.systems");
tables.forEach(sortable);
if (tables.length) filters(tables);
if (byId("data")) comparison(JSON.parse(byId("data").textContent));

// On paper nothing can be opened.
let opened = [];
addEventListener("beforeprint", () => {
  opened = all("details:not([open])").filter((details) => !details.closest(".queries"));
  opened.forEach((details) => (details.open = true));
});
addEventListener("afterprint", () => opened.forEach((details) => (details.open = false)));
