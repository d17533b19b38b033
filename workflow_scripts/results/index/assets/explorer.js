/* Behaviour of the results page. The data come from results/index/data.py and leaderboard.py; charts
   are drawn by Vega-Lite and tables by Tabulator. The view is stored in the URL's fragment. */
"use strict";
const read = id => JSON.parse(document.getElementById(id).textContent);
const byId = id => document.getElementById(id);
const DATA = read("all-data"), BOARD = read("board-data"), FIGURES = read("figure-data");
const RUNS = DATA.runs, ROLES = RUNS.roles, DIMENSIONS = DATA.dimensions;
const HOME = decodeURI(location.pathname).endsWith(`/${DATA.place}`);
const MEASURES = Object.fromEntries(DATA.measures.map(m => [m.key, m]));
const DEFAULTS = {x: "asr_top1", y: "top1", colour: "defence", shape: "defence", facet: "start_label",
  scale: "symlog", role: "compared", off: "", run: "", brush: "", group: ""};
const {colours: COLOURS, shapes: SHAPES, glyphs: GLYPHS, star: STAR} = DATA.style;
const text = (dimension, run) => RUNS.coded[dimension].levels[RUNS.coded[dimension].codes[run]];
const rows = DATA.epochs.run.map((run, n) => {
  const row = {n, id: RUNS.columns.id[run], at: run, epoch: DATA.epochs.epoch[n], role: ROLES[DATA.epochs.role[n]]};
  for (const name in DIMENSIONS) if (name !== "role") row[name] = text(name, run);
  for (const name in MEASURES) row[name] = DATA.epochs[name][n];
  return row;
});
const epochsOf = Object.groupBy(rows, row => row.id);

/* State: the URL's values override the defaults. */
let state = {}, views = {}, table, waiting;
function readState() {
  state = {...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1)))};
  for (const [key, known] of [["x", MEASURES], ["y", MEASURES], ["colour", DIMENSIONS], ["shape", DIMENSIONS]])
    if (!(state[key] in known)) state[key] = DEFAULTS[key];
}
function setState(change, from = state) {
  state = {...from, ...change}; writeState(); show();
}
function writeState() {
  const hash = String(new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== "" && value !== DEFAULTS[key])));
  history.replaceState(null, "", `#${hash || "explorer"}`);
}
const off = () => new Set(state.off ? state.off.split("|") : []);
function chosen(row) {
  if (state.role === "compared" ? row.role === ROLES[3] || row.role === ROLES[4] :
    state.role && row.role !== state.role) return false;
  for (const name in DIMENSIONS) {
    const wanted = state[`f.${name}`];
    if (!wanted) continue;
    const compared = row.role === ROLES[1] || row.role === ROLES[2];
    if (compared && ["defence", "learning_rate", "setting", "seed"].includes(name)) continue;
    if (name === "experiments" ? !row[name].split(", ").includes(wanted) : row[name] !== wanted) return false;
  }
  if (state.group && !BOARD.rows[state.group]?.runs.includes(row.id)) return false;
  return row[state.x] != null && row[state.y] != null;
}
const within = row => {
  const [x0, x1, y0, y1] = state.brush.split(",").map(Number);
  return !state.brush || row[state.x] >= x0 && row[state.x] <= x1 && row[state.y] >= y0 && row[state.y] <= y1;
};

/* Formatting of numbers. */
function wilson(percent, count) {
  const p = percent / 100, z = 1.959964, middle = (p + z * z / (2 * count)) / (1 + z * z / count);
  const half = z * Math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count);
  return [100 * Math.min(p, middle - half), 100 * Math.max(p, middle + half)].map(v => Math.min(100, Math.max(0, v)));
}
function number(row, key) {
  const measure = MEASURES[key], value = row[key];
  if (value == null) return "–";
  const count = RUNS.columns[measure.of][row.at];
  if (!measure.share) return value.toPrecision(4);
  return `${value.toFixed(1)} %` + (count ? ` (${wilson(value, count).map(v => v.toFixed(1)).join("–")})` : "");
}
const passes = n => n == null ? "unknown" : n.toLocaleString("en", {notation: "compact", maximumSignificantDigits: 3});
const hours = h => h >= 1 ? `${h.toFixed(1)} h` : `${(60 * h).toFixed(1)} min`;
function lines(row) {
  const run = row.at, shown = [...new Set(["top1", "asr_top1", "triggered_top1", state.x, state.y])];
  const names = Object.keys(DIMENSIONS).filter(name => row[name] && name !== "experiments");
  return [...names.map(name => [DIMENSIONS[name], row[name]]), ["Epoch", row.epoch],
    ...shown.filter(key => key in MEASURES).map(key => [MEASURES[key].label.replace(" (%)", ""), number(row, key)]),
    ["Cost", `${hours(RUNS.columns.hours[run])} on ${text("device", run)}, ${passes(RUNS.columns.passes[run])} tower passes`],
    ["Code", `${text("commit", run)}, digest ${text("digest", run)}, ${text("code", run)}`], ["Run", row.id]];
}

/* Charts. */
const css = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
function config() {
  const ink = css("ink"), faint = css("faint"), line = css("line");
  return {background: null, font: "system-ui, 'DejaVu Sans', sans-serif", view: {stroke: line},
    axis: {labelColor: faint, titleColor: ink, gridColor: line, domainColor: faint, tickColor: faint,
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal"},
    header: {labelColor: ink, titleColor: faint, labelFontSize: 13, labelFontWeight: "bold", title: null},
    legend: {labelColor: ink, titleColor: faint, labelFontSize: 12, symbolStrokeColor: ink, labelLimit: 300},
    title: {color: ink}};
}
function embed(id, spec, changed = {}) {
  views[id]?.finalize();
  const compiled = vegaLite.compile({...spec, config: {...config(), ...changed}}, {logger: vega.logger(vega.Error)}).spec;
  views[id] = new vega.View(vega.parse(compiled), {renderer: "canvas", container: byId(id), hover: true});
  const tip = byId("tip");
  views[id].tooltip((handler, event, item, value) => {
    tip.hidden = value == null || value === "";
    if (tip.hidden) return;
    const shown = item.datum?.id ? lines(item.datum) : Object.entries(value);
    tip.replaceChildren(...shown.flatMap(([name, what]) => [make("dt", name), make("dd", what)]));
    const right = event.clientX + 12 + tip.offsetWidth > innerWidth;
    tip.style.left = `${Math.max(4, right ? event.clientX - 12 - tip.offsetWidth : event.clientX + 12)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 4))}px`;
  });
  views[id].run();
  return views[id];
}
function make(tag, content = "", attributes = {}) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(content);
  return element;
}
function levelsOf(dimension) {
  const levels = dimension === "role" ? ROLES : RUNS.coded[dimension].levels;
  const present = new Set(rows.filter(row => row.role !== ROLES[4]).map(row => row[dimension]));
  return levels.filter(level => present.has(level));
}
const dark = () => getComputedStyle(document.documentElement).colorScheme === "dark";
const lifted = colour => colour.startsWith("#") && dark() ? `color-mix(in srgb, ${colour}, white 30%)` : colour;
function look(dimension) {
  const levels = levelsOf(dimension), known = dimension === "defence" ? DATA.looks : {};
  const of = (level, key, others) => level === DATA.not_cleaned ? {colour: css("faint"), shape: "stroke"}[key] :
    lifted(known[level]?.[key] ?? others[levels.indexOf(level) % others.length]);
  return {levels, colours: levels.map(l => of(l, "colour", COLOURS)), shapes: levels.map(l => of(l, "shape", SHAPES))};
}
function axis(channel, data) {
  const measure = MEASURES[state[channel]];
  const low = measure.share && state.scale === "symlog" && (measure.key.startsWith("asr") || channel === "x");
  const values = data.map(row => row[measure.key]), ends = [Math.min(...values), Math.max(...values)];
  const domain = measure.share ? [Math.max(0, Math.floor(ends[0] - 3)), Math.min(100, Math.ceil(ends[1] + 3))] : undefined;
  return {field: measure.key, type: "quantitative", title: measure.label,
    scale: low ? {type: "symlog", constant: 1, domain: [0, 100], nice: false} : {zero: false, nice: !domain, ...domain && {domain}},
    axis: low ? {values: [0, 1, 2, 5, 10, 20, 50, 100]} : {tickCount: 6}};
}
function explorerSpec(data) {
  const width = byId("chart").clientWidth, facets = new Set(data.map(row => row[state.facet])).size;
  const columns = state.facet ? Math.max(1, Math.min(facets, 4, Math.floor(width / 260))) : 1;
  const size = Math.floor(width / columns) - 62, few = data.length < 2000;
  const colour = look(state.colour), shape = look(state.shape);
  const stars = `datum.role === '${ROLES[1]}' || datum.role === '${ROLES[2]}'`;
  const encoding = {x: axis("x", data), y: axis("y", data), tooltip: {field: "id"}};
  const points = {transform: [{filter: `datum.shown && !(${stars})`}],
    mark: {type: "point", filled: true, size: few ? 55 : 18, opacity: few ? 1 : 0.7, stroke: css("ground"), strokeWidth: few ? 0.5 : 0, cursor: "pointer"},
    encoding: {...encoding,
      color: {field: state.colour, scale: {domain: colour.levels, range: colour.colours}, legend: null},
      shape: {field: state.shape, scale: {domain: shape.levels, range: shape.shapes}, legend: null}}};
  const value = state.brush.split(",").map(Number);
  if (!matchMedia("(pointer: coarse)").matches) points.params = [{name: "brush", select: {type: "interval", mark:
    {fill: css("link"), stroke: css("link")}}, ...state.brush && {value: {x: value.slice(0, 2), y: value.slice(2)}}}];
  const star = {transform: [{filter: `datum.shown && (${stars})`}], encoding: {...encoding,
    fill: {condition: {test: `datum.role === '${ROLES[1]}'`, value: "#D62728"}, value: "#ffffff"}},
    mark: {type: "point", shape: STAR, size: 190, stroke: "#1c1f23", strokeWidth: 1, opacity: 1, cursor: "pointer"}};
  const path = {transform: [{filter: {field: "id", equal: state.run}}], layer: [
    {mark: {type: "line", color: css("ink"), strokeWidth: 1.5}, encoding: {order: {field: "epoch"}}},
    {mark: {type: "text", color: css("ink"), dx: 9, dy: -8, fontSize: 11}, encoding: {text: {field: "epoch"}}}],
  encoding: {x: axis("x", data), y: axis("y", data)}};
  const layer = [path, points, star];
  if (state.x.startsWith("asr")) layer.unshift({data: {values: [{from: 0, to: 5}]}, encoding: {
    x: {field: "from", type: "quantitative"}, x2: {field: "to"}},
  mark: {type: "rect", color: css("ink"), opacity: 0.07, tooltip: null}});
  const inner = {width: size, height: Math.min(380, Math.max(230, size * 0.8)), layer};
  const spec = {data: {values: data}, description: byId("chart").ariaLabel};
  return state.facet ? {...spec, facet: {field: state.facet, sort: levelsOf(state.facet), header: {labelLimit: size}}, columns, spec: inner,
    spacing: 24} : {...spec, ...inner};
}
function drawExplorer() {
  const shown = rows.filter(row => chosen(row) && !off().has(row[state.colour]));
  const followed = (epochsOf[state.run] ?? []).map(row => ({...row, shown: false}));
  byId("chart").ariaLabel = `Scatter plot of ${MEASURES[state.y].label} against ${MEASURES[state.x].label}: ` +
    `${shown.length} models. The table below lists the same numbers.`;
  const view = embed("chart", explorerSpec([...shown.map(row => ({...row, shown: true})), ...followed]));
  view.addEventListener("click", (event, item) => item?.datum?.id && setState({run: item.datum.id}));
  if (!matchMedia("(pointer: coarse)").matches)
    view.addDataListener("brush_store", (name, tuples) => {
      clearTimeout(waiting); waiting = setTimeout(() => brushed(tuples), 150);
    });
  return shown;
}
function brushed(tuples) {
  const ends = tuples[0]?.values?.map(v => [Math.min(...v), Math.max(...v)]) ?? [];
  state.brush = ends.length === 2 ? ends.flat().map(v => +v.toFixed(3)).join(",") : "";
  writeState();
  filterTable();
}

/* Controls, legend, table and the followed run. */
function controls() {
  for (const select of document.querySelectorAll("#explorer select"))
    select.addEventListener("change", () => setState({[select.id]: select.value, brush: "",
      ...select.id === "colour" && {off: ""}}));
  byId("reset").addEventListener("click", () => setState({}, DEFAULTS));
  byId("copy").addEventListener("click", () => navigator.clipboard?.writeText(location.href));
  byId("csv").addEventListener("click", () => table.download("csv", "selected-models.csv"));
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    drawFigures(); show();
  });
}
function legend(shown) {
  const colour = look(state.colour), shape = look(state.shape), hidden = off(), same = state.colour === state.shape;
  const symbol = (shape, color) => make("span", GLYPHS[shape], {ariaHidden: "true", style: `color:${color}`});
  const present = new Set(rows.filter(chosen).map(row => row[state.colour]));
  byId("colours").replaceChildren(...colour.levels.map((level, n) => [level, n]).filter(([level]) => present.has(level))
    .map(([level, n]) => {
      const chip = make("button", "", {type: "button", className: "chip", ariaPressed: String(!hidden.has(level))});
      chip.append(symbol(same ? shape.shapes[n] : "circle", colour.colours[n]), level || "–");
      chip.addEventListener("click", () => {
        hidden.has(level) ? hidden.delete(level) : hidden.add(level);
        setState({off: [...hidden].join("|")});
      });
      return chip;
    }));
  const shapes = new Set(shown.map(row => row[state.shape]));
  byId("shapes").replaceChildren(...same || shapes.size < 2 ? [] : shape.levels.filter(level => shapes.has(level)).map(level => {
    const key = make("span", "", {className: "key"});
    key.append(symbol(shape.shapes[shape.levels.indexOf(level)], "inherit"), level || "–");
    return key;
  }));
}
function filterTable() {
  const hidden = off();
  table.setFilter(row => chosen(row) && !hidden.has(row[state.colour]) && within(row));
  const count = table.getDataCount("active"), runs = new Set(table.getData("active").map(row => row.id)).size;
  byId("count").textContent = `${count.toLocaleString("en")} models from ${runs.toLocaleString("en")} runs` +
    (state.brush ? " in the selected area (double-click the plot to clear)" : "") +
    (state.group ? ", from one row of the leaderboard" : "");
}
function follow() {
  const panel = byId("run"), epochs = epochsOf[state.run];
  if (panel.hidden = !epochs) return;
  const last = epochs[epochs.length - 1], run = last.at, folder = RUNS.columns.folder[run];
  const details = make("dl");
  const ends = epochs.flatMap(row => DATA.measures.filter(m => m.end && row[m.key] != null)
    .map(m => [m.label.replace(" (%)", ""), number(row, m.key)]));
  details.append(...[...lines(last), ...ends].flatMap(([name, what]) => [make("dt", name), make("dd", what)]));
  const spec = make("details", make("summary", "Specification that differs between runs"));
  spec.append(make("pre", text("spec", run)));
  const command = make("code", `${DATA.command} ${DATA.root}/${folder}/run.json --force`);
  const close = make("button", "Close", {type: "button"});
  close.addEventListener("click", () => setState({run: ""}));
  panel.replaceChildren(close, make("h3", `Run ${state.run}`), make("p", HOME ? make("a", "Record: run.json", {href: `${DATA.up}${folder}/run.json`}) :
    `Record: ${DATA.root}/${folder}/run.json (not linked, because this page was moved out of the results).`), make("p", "Repeat this run: "), command, spec, make("p", "After the last epoch:"), details);
}
const asText = cell => make("span", cell.getValue() ?? "");  // Tabulator inserts strings as HTML, but not elements
const labelled = title => ({elementAttributes: {"aria-label": `Filter: ${title}`}});
const searched = title => ({headerFilterPlaceholder: "search", headerFilterParams: labelled(title)});
function columns() {
  const share = key => ({title: MEASURES[key].label, field: key, hozAlign: "right", headerFilter: "number",
    headerFilterFunc: ">=", headerFilterPlaceholder: "at least", headerFilterParams: labelled(MEASURES[key].label), formatter: cell => number(cell.getData(), key)});
  const dimension = name => ({title: DIMENSIONS[name], field: name, headerFilter: "input", ...searched(DIMENSIONS[name]), tooltip: (event, cell) => asText(cell), maxInitialWidth: 200});
  const FIRST = ["defence", "start_label", "learning_rate"], keys = DATA.measures.map(m => m.key);
  const shown = Object.keys(DIMENSIONS).filter(name => new Set(rows.map(row => row[name])).size > 1);
  return [{title: "Run", field: "id", width: 150, headerFilter: "input", ...searched("Run"), tooltip: (event, cell) => asText(cell), frozen: innerWidth > 700, formatter: cell => {
    const link = make("a", cell.getValue(), {href: "#"});
    link.addEventListener("click", event => { event.preventDefault(); setState({run: cell.getValue()}); byId("run").focus(); });
    return link;
  }}, ...shown.filter(name => FIRST.includes(name)).map(dimension), {title: "Epoch", field: "epoch", hozAlign: "right"},
  ...keys.slice(0, 3).map(share), ...shown.filter(name => !FIRST.includes(name)).map(dimension), ...keys.slice(3).map(share)];
}
function show() {
  for (const select of document.querySelectorAll("#explorer select")) select.value = state[select.id] ?? "";
  const shown = drawExplorer();
  legend(shown);
  follow();
  if (table) filterTable();
}
/* Main figure, leaderboard and detectors: prepared in Python, displayed here. */
const drawFigures = () => FIGURES.forEach((spec, n) => embed(`figure-${n}`, {
  ...JSON.parse(JSON.stringify(spec), (key, value) => key === "range" ? value.map(lifted) : value), autosize: {type: "fit-x", contains: "padding"}}, n && innerWidth > 700 ? {axisY: {labels: false, ticks: false}} : {}));
function grid(id, board, group) {
  const column = spec => spec.columns ? {title: spec.title, columns: spec.columns.map(column)} : {
    title: spec.title, field: spec.field, headerFilter: "input", ...searched(spec.title), maxInitialWidth: innerWidth > 700 || spec.field !== "defence" ? 320 : 170,
    tooltip: (event, cell) => asText(cell), frozen: ["defence", "start"].includes(spec.field) && innerWidth > 700,
    sorter: (a, b, one, two) => {
      const [left, right] = [one, two].map(row => row.getData()[`${spec.field}_n`]);
      return left === undefined ? String(a).localeCompare(String(b)) : (left ?? -1) - (right ?? -1);
    },
    formatter: cell => {
      const value = cell.getValue(), row = cell.getData();
      if (spec.title === "Verdict") return make("span", value, {className: `verdict ${value.split(":")[0]}`});
      if (spec.field !== "defence") return document.createTextNode(value ?? "");
      const link = make("a", value, {href: "#explorer", title: "Show these runs in the explorer"});
      link.addEventListener("click", () => setTimeout(() => setState({group: String(row.place), facet: "attack"}, DEFAULTS)));
      return link;
    }};
  return board.rows.length && new Tabulator(`#${id}`, {columnDefaults: {titleFormatter: asText}, data: board.rows, columns: board.columns.map(column), maxHeight: 620,
    layout: "fitDataFill", groupBy: group, groupHeader: (value, count) => document.createTextNode(`${value}: ${count} rows`)});
}
document.querySelector("#explorer details").open = innerWidth > 700;
readState();
controls();
drawFigures();
table = new Tabulator("#epochs", {columnDefaults: {titleFormatter: asText}, data: rows, columns: columns(), height: 440, index: "n", layout: "fitData",
  downloadRowRange: "active"});
table.on("tableBuilt", () => { document.documentElement.dataset.ready = "yes"; show(); });
grid("board", BOARD, "budget");
grid("detectors", read("detectors-data"));
addEventListener("hashchange", () => { if (/[=]/.test(location.hash)) { readState(); show(); } });
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawFigures(); show(); } });
