// What each chart shows, as options of ECharts: pure functions of the data and the theme's colours.

import { lines } from "./dom.js";
import { bytes, count, inUnit, ms, percent, plural, seconds, tick } from "./format.js";

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

export const NOTHING_S = 1e-6; // a run that took less took no time

/** What all charts have in common. */
function base(colours, about) {
  return {
    animation: false,
    aria: { enabled: true, label: { description: about } },
    textStyle: { fontFamily: FONT, color: colours.quiet, fontSize: 12 },
    grid: { left: 8, right: 20, top: 28, bottom: 30, containLabel: true },
    tooltip: {
      confine: true, backgroundColor: colours.card, borderColor: colours.line, padding: [6, 10],
      textStyle: { color: colours.ink, fontSize: 13, fontFamily: FONT },
    },
  };
}

function axis(colours, name, more = {}) {
  return {
    name, nameLocation: "middle", nameGap: 26, nameTextStyle: { color: colours.quiet, fontSize: 12 },
    axisLine: { show: false }, axisTick: { show: false },
    splitLine: { lineStyle: { color: colours.line, width: 1 } },
    ...more,
    axisLabel: { color: colours.quiet, fontSize: 12, hideOverlap: true, ...more.axisLabel },
  };
}

/** Points of a curve in percent of all receipts expected: from nothing up to what came, then level to the end. */
export function shares(one, end) {
  const { points_ms: points, reach } = one;
  if (!points.length) return [];
  const most = (reach ?? 1) * 100;
  const last = Math.max(1, points.length - 1);
  const drawn = points.map((at, index) => [at, points.length === 1 ? most : (index / last) * most]);
  return [[points[0], 0], ...drawn, ...(end > points.at(-1) ? [[end, most]] : [])];
}

/** Names of curves, each once: two runs may have one label. */
export function names(curves) {
  const seen = new Map();
  return curves.map((one) => {
    const name = one.label || one.run;
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return seen.get(name) > 1 ? `${name} (${seen.get(name)})` : name;
  });
}

export function latency({ curves, limits }, colours, { log = false } = {}) {
  const known = curves.filter((one) => one.points_ms.length);
  if (!known.length) return null;
  const slowest = Math.max(...known.map((one) => one.points_ms.at(-1)));
  const shown = limits.filter((one) => one.ms <= slowest * 1.6);
  const end = Math.max(slowest, ...shown.map((one) => one.ms)) * 1.02 || 1;
  const least = Math.min(...known.map((one) => one.points_ms.find((at) => at > 0) ?? slowest));
  const named = names(known);
  return {
    ...base(colours, "Share of all expected receipts that had come by a time since the publication."),
    grid: { left: 8, right: 24, top: known.length > 1 ? 44 : 26, bottom: 30, containLabel: true },
    legend: known.length > 1
      ? { top: 0, left: 0, type: "scroll", icon: "roundRect", itemHeight: 4, textStyle: { color: colours.ink } }
      : undefined,
    tooltip: {
      ...base(colours, "").tooltip, trigger: "axis", axisPointer: { type: "line", lineStyle: { color: colours.quiet } },
      formatter: (found) =>
        lines(ms(found[0].axisValue), ...found.map((at) => `${known.length > 1 ? `${at.seriesName}: ` : ""}${at.value[1].toFixed(1)} %`)),
    },
    xAxis: axis(colours, "time since publication", {
      type: log ? "log" : "value", min: log ? Math.max(least, slowest / 1e5, 1e-3) : Math.min(0, ...known.map((one) => one.points_ms[0])), max: end,
      axisLabel: { formatter: tick, showMaxLabel: false },
    }),
    yAxis: axis(colours, "", { type: "value", min: 0, max: 100, axisLabel: { formatter: "{value} %" } }),
    series: known.map((one, index) => ({
      name: named[index], type: "line", data: shares(one, end), showSymbol: false, emphasis: { disabled: true },
      lineStyle: { width: index ? 1.8 : 2.6, color: colours.curves[index % 8], type: index ? [6, 3] : "solid" },
      itemStyle: { color: colours.curves[index % 8] }, z: 10 - index,
      areaStyle: index || known.length > 1 ? undefined : { color: colours.accent, opacity: 0.1 },
      markPoint: index ? undefined : percentiles(one, colours, known.length > 1),
      markLine: index || !shown.length ? undefined : bounds(shown, end, colours),
    })),
  };
}

function percentiles(one, colours, crowded) {
  const found = [["p50", 50], ["p95", 95]].filter(([name]) => one[name] !== null && one[name] !== undefined);
  const end = one.points_ms.at(-1) || 1;
  return {
    symbol: "circle", symbolSize: 9, itemStyle: { color: colours.card, borderColor: colours.curves[0], borderWidth: 2 },
    label: {
      show: !crowded, fontWeight: 600, color: colours.ink, textBorderColor: colours.card, textBorderWidth: 3, distance: 8,
      formatter: ({ data }) => data.name,
    },
    data: found.map(([name, share]) => ({
      name: `${name} ${ms(one[name])}`, coord: [one[name], share], label: { position: one[name] > end * 0.55 ? "bottom" : "right" },
    })),
  };
}

/** Thresholds, their words kept inside the picture. */
function bounds(limits, end, colours) {
  return {
    symbol: "none", silent: true,
    data: limits.map((one, index) => ({
      xAxis: one.ms,
      lineStyle: { color: one.ok ? colours.pass : colours.fail, type: "dashed", width: 1.5 },
      label: {
        align: one.ms > end * 0.75 ? "right" : one.ms < end * 0.25 ? "left" : "center", formatter: one.expr, color: one.ok ? colours.pass : colours.fail, position: "end", distance: [0, 2 + 14 * (index % 2)], fontSize: 12,
      },
    })),
  };
}

export function hops(found, colours, { kind = "since_ms" } = {}) {
  const shown = found.filter((one) => one[kind]);
  if (!shown.length) return null;
  return {
    ...base(colours, "Least, quartiles and most of the latencies of each hop."),
    grid: { left: 8, right: 12, top: 16, bottom: 36, containLabel: true },
    tooltip: {
      ...base(colours, "").tooltip,
      formatter: ({ dataIndex }) => {
        const { hop, count: many, [kind]: [low, first, middle, third, high] } = shown[dataIndex];
        return lines(`Hop ${hop}: ${plural(many, "receipt")}`, `median ${ms(middle)}`, `half of them ${ms(first)} to ${ms(third)}`, `${ms(low)} to ${ms(high)}`);
      },
    },
    xAxis: axis(colours, "hop, and receipts of it", {
      type: "category", nameGap: 44, data: shown.map((one) => `${one.hop}\n${count(one.count)}`), splitLine: { show: false },
      axisLabel: { lineHeight: 15 },
    }),
    yAxis: axis(colours, "", { type: "value", axisLabel: { formatter: tick } }),
    series: [{
      type: "boxplot", data: shown.map((one) => one[kind]), boxWidth: [10, 46],
      itemStyle: { color: colours.wash, borderColor: colours.accent, borderWidth: 1.8 },
    }],
  };
}

export function reach(found, faults, colours) {
  if (!found || found.span_s < NOTHING_S) return null;
  const step = found.span_s / found.due.length;
  const at = (index) => (index + 1) * step;
  const most = found.due.at(-1);
  const points = (values) => [[0, 0], ...values.map((value, index) => [at(index), value])];
  const inSeconds = found.span_s >= 2;
  const time = (value) => (inSeconds ? seconds(value) : tick(value * 1000));
  return {
    ...base(colours, "Receipts expected of what was published, and receipts that had come, over the time of the run."),
    grid: { left: 8, right: 24, top: 34, bottom: 30, containLabel: true },
    legend: { top: 0, left: 0, icon: "roundRect", itemHeight: 4, textStyle: { color: colours.ink } },
    tooltip: {
      ...base(colours, "").tooltip, trigger: "axis",
      formatter: (shown) => {
        const index = (shown[0]?.dataIndex ?? 0) - 1;
        if (index < 0) return lines(time(0));
        const [due, received] = [found.due[index], found.received[index]];
        return lines(time(at(index)), `${count(received)} of ${plural(due, "receipt")} due`, percent(received, due));
      },
    },
    xAxis: axis(colours, "time since the first publication", {
      type: "value", min: 0, max: found.span_s, axisLabel: { formatter: time, showMaxLabel: false },
    }),
    yAxis: axis(colours, "", { type: "value", max: most || 1, axisLabel: { formatter: (value) => count(value) } }),
    series: [
      ...faultAreas(faults, found.span_s, colours),
      {
        name: "due", type: "line", step: "end", data: points(found.due), showSymbol: false, emphasis: { disabled: true },
        lineStyle: { color: colours.quiet, width: 1.6, type: [5, 4] }, itemStyle: { color: colours.quiet },
      },
      {
        name: "received", type: "line", data: points(found.received), showSymbol: false, emphasis: { disabled: true },
        lineStyle: { color: colours.accent, width: 2.4 }, itemStyle: { color: colours.accent },
        areaStyle: { color: colours.accent, opacity: 0.12 },
      },
    ],
  };
}

/** Where faults were in force, as a series behind those of a chart of time; none where there were none. */
function faultAreas(faults, span, colours) {
  const seen = faults.filter((one) => one.from_s !== null && one.from_s < span && (one.to_s ?? span) > 0);
  if (!seen.length) return [];
  const areas = seen.slice(0, 12).map((one) => [
    { name: seen.length === 1 ? one.name : "", xAxis: Math.max(0, one.from_s) }, { xAxis: Math.min(span, one.to_s ?? span) },
  ]);
  return [{
    type: "line", data: [], z: 0, silent: true, tooltip: { show: false },
    markArea: {
      z: 0, silent: true, itemStyle: { color: colours.hot, opacity: 0.09 }, data: areas,
      label: { color: colours.quiet, position: "insideTop", fontSize: 11 },
    },
  }];
}

export const TRAFFIC = {
  payload: ["Payload", bytes], wire: ["On the wire", bytes], receipts: ["Receipts", count], wait: ["Longest wait", ms],
};

export function traffic(found, colours, { kind = "payload", width = 600 } = {}) {
  const cells = found?.[kind] ?? [];
  if (!cells.length) return null;
  const { labels } = found;
  const write = TRAFFIC[kind][1];
  const most = Math.max(...cells.map((one) => one[2]), 1e-9);
  const legible = width / labels.length > 16;
  const narrow = width < 480;
  const label = { show: legible && !narrow, fontSize: 11, interval: 0, width: 92, overflow: "truncate" };
  return {
    ...base(colours, "How much went from each node to each other."),
    grid: {
      left: legible && !narrow ? 8 : 26, right: 8, top: 8, bottom: 64, containLabel: legible && !narrow, show: true,
      backgroundColor: colours.page, borderWidth: 0,
    },
    tooltip: {
      ...base(colours, "").tooltip,
      formatter: ({ value: [to, from, value] }) => lines(write(value), `from ${labels[from]}`, `to ${labels[to]}`),
    },
    xAxis: axis(colours, legible && !narrow ? "" : "to", {
      type: "category", data: labels, nameGap: 12, splitLine: { show: false }, splitArea: { show: false },
      axisLabel: { ...label, rotate: 60 },
    }),
    yAxis: axis(colours, legible && !narrow ? "" : "from", {
      type: "category", data: labels, inverse: true, nameGap: 10, splitLine: { show: false }, axisLabel: label,
    }),
    visualMap: {
      type: "continuous", min: 0, max: most, orient: "horizontal", left: "center", bottom: 0, itemWidth: 12, itemHeight: Math.min(220, width * 0.4),
      calculable: false, inRange: { color: colours.heat }, text: [write(most), "0"], textStyle: { color: colours.quiet, fontSize: 12 },
    },
    series: [{
      type: "heatmap", data: cells.map(([from, to, value]) => [to, from, value]),
      itemStyle: { borderColor: colours.card, borderWidth: labels.length > 24 ? 0.5 : 1.5 }, emphasis: { itemStyle: { borderColor: colours.ink } },
    }],
  };
}

export function duplicates(found, nodes, colours) {
  if (!found?.total) return null;
  const shown = found.node.map((node, index) => ({ name: nodes[node], count: found.count[index], received: found.received[index] }));
  return {
    ...base(colours, "Whole payloads that came to nodes that held them, by node."),
    grid: { left: 8, right: 44, top: 4, bottom: 30, containLabel: true },
    tooltip: {
      ...base(colours, "").tooltip,
      formatter: ({ dataIndex }) =>
        lines(shown[dataIndex].name, plural(shown[dataIndex].count, "duplicate"), `beside ${plural(shown[dataIndex].received, "receipt")}`),
    },
    xAxis: axis(colours, "duplicates", { type: "value", minInterval: 1, axisLabel: { formatter: (value) => count(value) } }),
    yAxis: axis(colours, "", {
      type: "category", inverse: true, data: shown.map((one) => one.name), splitLine: { show: false },
      axisLabel: { width: 110, overflow: "truncate", interval: 0 },
    }),
    series: [{
      type: "bar", data: shown.map((one) => one.count), barMaxWidth: 16, itemStyle: { color: colours.accent, borderRadius: [0, 3, 3, 0] },
      label: { show: true, position: "right", color: colours.quiet },
    }],
  };
}

export const FAULT_ROWS_MAX = 20;

/** The span of time that faults and the run need together, in seconds. */
export function faultSpan(faults, reachFound) {
  const ends = faults.flatMap((one) => [one.from_s, one.to_s]).filter((one) => one !== null && one !== undefined);
  if (!reachFound) return [Math.min(0, ...ends), Math.max(0, ...ends) || 1];
  const span = reachFound.span_s;
  // A fault may begin long before the run and last long after it: the axis is about the run.
  const low = Math.max(Math.min(0, ...ends), -Math.max(span, 1) * 0.25);
  const high = Math.min(Math.max(span, ...ends), Math.max(span, 1) * 1.5);
  return [low, high > low ? high : low + 1];
}

export function faults(found, reachFound, lost, colours) {
  if (!found.length) return null;
  const [low, high] = faultSpan(found, reachFound);
  const time = high - low >= 2 ? seconds : (value) => tick(value * 1000);
  const shown = found.slice(-FAULT_ROWS_MAX); // the last ones: of a run that goes on those are looked at
  const rows = shown.length;
  const below = reachFound ? 120 : 0;
  const rate = reachFound ? rates(reachFound) : [];
  const clamped = (at) => Math.min(high, Math.max(low, at));
  const x = (index, more) => axis(colours, more.name ?? "", { type: "value", min: low, max: high, gridIndex: index, ...more });
  return {
    ...base(colours, "When faults were in force, and how many receipts came at the same time."),
    height: rows * 34 + below + 50,
    grid: [
      { left: 120, right: 16, top: 6, height: rows * 34 },
      ...(below ? [{ left: 120, right: 16, top: rows * 34 + 34, height: below - 30 }] : []),
    ],
    tooltip: {
      ...base(colours, "").tooltip,
      formatter: ({ seriesIndex, dataIndex, value }) => {
        if (seriesIndex) return lines(time(value[0]), `${inUnit(value[1], "1/s")} ${seriesIndex === 1 ? "receipts" : "datagrams lost"}`);
        const one = shown[dataIndex];
        const until = one.to_s === one.from_s ? "" : ` to ${one.to_s === null ? "the end" : time(one.to_s)}`;
        const span = one.from_s === null ? "" : `${time(one.from_s)}${until}`;
        return lines(one.name, one.what, span, one.asked ? `asked ${one.asked}` : "", one.seen ? `seen ${one.seen}` : "");
      },
    },
    xAxis: [
      x(0, below ? { axisLabel: { show: false } } : { name: "time since the start", axisLabel: { formatter: time } }),
      ...(below ? [x(1, { name: "time since the first publication", axisLabel: { formatter: time, showMaxLabel: false, showMinLabel: false } })] : []),
    ],
    yAxis: [
      axis(colours, "", {
        type: "category", inverse: true, data: shown.map((one) => one.name), gridIndex: 0, splitLine: { show: false },
        axisLabel: { color: colours.ink, width: 104, overflow: "truncate", interval: 0 },
      }),
      ...(below ? [axis(colours, "", { type: "value", gridIndex: 1, splitNumber: 2, axisLabel: { formatter: (value) => `${count(value)}/s` } })] : []),
    ],
    series: [
      {
        type: "custom", xAxisIndex: 0, yAxisIndex: 0, encode: { x: [1, 2], y: 0 }, clip: true,
        data: shown.map((one, index) => [index, clamped(one.from_s ?? low), clamped(one.to_s ?? high)]),
        renderItem: (_, api) => bar(api, shown[api.value(0)], colours, low, time),
      },
      ...(below ? [{
        name: "receipts", type: "line", step: "end", xAxisIndex: 1, yAxisIndex: 1, data: rate, showSymbol: false,
        lineStyle: { color: colours.accent, width: 1.6 }, areaStyle: { color: colours.accent, opacity: 0.15 },
      }] : []),
      ...(below && lost.length ? [{
        name: "lost", type: "line", xAxisIndex: 1, yAxisIndex: 1, data: lost, showSymbol: false,
        lineStyle: { color: colours.hot, width: 1.6, type: [4, 3] },
      }] : []),
    ],
  };
}

function bar(api, one, colours, low, time) {
  const [left, middle] = api.coord([api.value(1), api.value(0)]);
  const [right] = api.coord([api.value(2), api.value(0)]);
  const width = Math.max(4, right - left);
  const before = (one.to_s ?? low) < low ? `, ended ${time(-one.to_s)} before` : "";
  const said = one.seen ? `asked ${one.asked}, seen ${one.seen}${before}` : `${one.what}${before}`;
  // A short bar has its words beside it, where there is more room than in it.
  const inside = width > 150 || left > api.getWidth() * 0.6;
  const from = inside ? left + 8 : left + width + 6;
  const colour = one.state === "failed" || one.ok === false ? colours.fail : colours.hot;
  return {
    type: "group",
    children: [
      { type: "rect", shape: { x: left, y: middle - 11, width, height: 22, r: 4 }, style: { fill: colour, opacity: 0.28, stroke: colour } },
      {
        type: "text", silent: true,
        style: {
          x: from, y: middle, text: said, fill: colours.ink, verticalAlign: "middle", fontSize: 12, overflow: "truncate",
          width: Math.max(60, inside ? width - 12 : api.getWidth() - from - 12),
        },
      },
    ],
  };
}

/** Receipts per second over the time of the run, by the end of each of some 60 parts. */
function rates(found) {
  const step = found.span_s / found.received.length;
  const every = 4;
  const points = [[0, 0]];
  for (let index = every - 1; index < found.received.length; index += every) {
    const before = index >= every ? found.received[index - every] : 0;
    points.push([(index + 1) * step, (found.received[index] - before) / (every * step)]);
  }
  return points;
}

export function series(found, faultsFound, colours, { kind = 0, node = "" } = {}) {
  const shown = found?.kinds[kind];
  if (!shown || !found.times_s.length) return null;
  const times = found.times_s;
  const chosen = Math.max(0, found.nodes.indexOf(node));
  return {
    ...base(colours, `${shown.title} of each node over time.`),
    grid: { left: 8, right: 20, top: 14, bottom: 30, containLabel: true },
    tooltip: {
      ...base(colours, "").tooltip, trigger: "item",
      formatter: ({ seriesName, value }) => lines(seriesName, inUnit(value[1], shown.unit), `at ${seconds(value[0])}`),
    },
    xAxis: axis(colours, "time since the first publication", { type: "value", min: 0, max: times.at(-1), axisLabel: { formatter: seconds } }),
    yAxis: axis(colours, "", { type: "value", min: 0, axisLabel: { formatter: (value) => inUnit(value, shown.unit) } }),
    series: [...faultAreas(faultsFound, times.at(-1), colours), ...found.nodes.map((name, index) => ({
      name, type: "line", data: times.map((at, part) => [at, shown.values[index][part]]), z: index === chosen ? 5 : 2,
      showSymbol: times.length < 3 || index === chosen, symbolSize: index === chosen ? 6 : 4, connectNulls: false,
      lineStyle: { color: index === chosen ? colours.accent : colours.quiet, width: index === chosen ? 2.6 : 1, opacity: index === chosen ? 1 : 0.35 },
      itemStyle: { color: index === chosen ? colours.accent : colours.quiet, opacity: index === chosen ? 1 : 0.35 },
    }))],
  };
}
