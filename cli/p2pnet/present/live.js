// Feeds the rich page from the server's events, and sends what its buttons ask for. Everything that comes may come again.
(() => {
  "use strict";
  const ARTIFACTS_MAX = 200; // of one page: then it lets go of the oldest
  const LET_GO = 50; // at a time
  const GONE_MAX = 2000; // ids of artifacts that were let go, so that late receipts do not begin them again
  const WAITING_MAX = 2000; // messages about artifacts, until there are drawings
  const RETRY_MS = 3000;
  const live = JSON.parse(document.getElementById("live-data").textContent);
  const state = document.getElementById("live-state");
  const said = document.getElementById("live-said");
  const lines = document.getElementById("live-lines");
  const answer = document.getElementById("live-answer");
  const numbers = new Map();
  const gone = new Set();
  const shownTables = new Map();
  let waiting = [];
  let early = {};
  let down = {};
  let shown = "";

  let renewing = false;
  let latest = live.generation;

  /** What draws; nothing while drawings are being made: what comes meanwhile is kept for them. */
  const page = () => (renewing ? undefined : globalThis.p2pnetPage);

  function say(badge, kind, text) {
    state.textContent = badge;
    state.className = `badge is-${kind}`;
    said.textContent = text;
    document.documentElement.dataset.live = badge;
  }

  function take(told) {
    const { model } = page();
    if (gone.has(told.id)) return;
    if (!numbers.has(told.id)) {
      if (numbers.size >= ARTIFACTS_MAX) letGo();
      numbers.set(told.id, model.announce({ id: told.id, publisher: told.publisher, at_us: told.at_us, size: told.size }));
    }
    if (told.node.length) model.append({ artifact: numbers.get(told.id), node: told.node, after_us: told.after_us, hop: told.hop, from: told.from });
  }

  function letGo() {
    for (const [id, number] of [...numbers]) {
      if (number >= LET_GO) numbers.set(id, number - LET_GO);
      else {
        numbers.delete(id);
        gone.add(id);
      }
    }
    for (const id of gone) if (gone.size > GONE_MAX) gone.delete(id);
    page().model.forget(LET_GO);
  }

  function receipts(list) {
    if (!page()) waiting = [...waiting, ...list].slice(-WAITING_MAX); // the drawings are still being made
    else list.forEach(take);
    document.documentElement.dataset.artifacts = numbers.size;
  }

  /** What is told whole: charts are drawn again, tables are put in where they have changed. */
  function parts(told) {
    const { tables = {}, ...charts } = told;
    if (page()) page().model.update(charts);
    else Object.assign(early, charts);
    for (const [key, html] of Object.entries(tables)) put(document.querySelector(`[data-table="${key}"]`), html);
  }

  /** HTML that the server escaped; the policy of the page runs no script in it. Focus stays where it was. */
  function put(place, html) {
    if (shownTables.get(place) === html) return;
    shownTables.set(place, html);
    const at = [...place.querySelectorAll("[tabindex]")].indexOf(document.activeElement);
    const sides = [...place.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    place.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
    place.querySelectorAll(".scroll").forEach((one, index) => (one.scrollLeft = sides[index] ?? 0));
    if (at >= 0) [...place.querySelectorAll("[tabindex]")][at]?.focus();
  }

  function status(now) {
    const { nodes, links, states } = now;
    if (page()) page().model.tellStates(states);
    down = states;
    say("live", "pass", `${nodes.connected} of ${nodes.desired} nodes connected, ${links.up} of ${links.expected} links up.`);
    lines.replaceChildren(...now.lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    const select = document.querySelector("form[data-verb=heal] select");
    const names = now.faults.join("\n");
    if (names !== shown) {
      const chosen = select.value;
      select.replaceChildren(...now.faults.map((name) => new Option(name, name, false, name === chosen)));
      shown = names;
    }
    for (const form of document.forms) write(form);
  }

  function quoted(word) {
    return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
  }

  /** What is typed for the same, without the options that are left empty. */
  function words(verb, fields) {
    const options = (pairs) => pairs.flatMap(([option, key]) => (fields[key] ? [option, fields[key]] : []));
    if (verb === "inject") return ["inject", live.name, ...options([["--size", "size"], ["--count", "count"], ["--rate", "rate"]]), "--no-wait"];
    if (verb === "heal") return ["fault", live.name, "clear", fields.fault ?? ""];
    return ["fault", live.name, "add", fields.kind, ...(fields.value ? [fields.value] : []), ...options([["--node", "node"], ["--for", "lasting"]])];
  }

  function fieldsOf(form) {
    return Object.fromEntries([...new FormData(form)].map(([key, text]) => [key, text.trim()]));
  }

  function write(form) {
    const { verb } = form.dataset;
    const fields = fieldsOf(form);
    const none = verb === "heal" && !fields.fault;
    form.querySelector("button").disabled = none || form.dataset.busy === "yes";
    form.querySelector(".command").textContent = none ? "nothing is broken" : `${live.program} ${words(verb, fields).map(quoted).join(" ")}${live.typed}`;
  }

  async function send(form) {
    form.dataset.busy = "yes";
    write(form);
    answer.textContent = "asked ...";
    try {
      const body = JSON.stringify({ verb: form.dataset.verb, ...fieldsOf(form) });
      const came = await fetch("/orders", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      const { command = "", text = came.statusText } = await came.json();
      answer.textContent = command ? `${command}: ${text}` : text;
      answer.dataset.ok = came.ok ? "yes" : "no";
    } catch {
      answer.textContent = `${live.program} ui does not answer`;
      answer.dataset.ok = "no";
    }
    form.dataset.busy = "no";
    write(form);
  }

  /** Other nodes, or another process of the lab: all begins anew, in the same places. */
  async function generation(now) {
    latest = now;
    if (latest === live.generation || renewing) return;
    if (!page()) return location.reload(); // not even the first drawings are there
    renewing = true;
    [waiting, early, down] = [[], {}, {}];
    try {
      const { generation: begun, view } = await (await fetch("/view")).json();
      await globalThis.p2pnetPage.renew(view);
      numbers.clear();
      gone.clear();
      live.generation = begun;
      renewing = false;
      begin();
      generation(latest);
    } catch {
      setTimeout(() => ((renewing = false), generation(latest)), RETRY_MS); // the server is gone, or comes back
    }
  }

  function listen() {
    const source = new EventSource("/events");
    const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    on("generation", generation);
    on("receipts", receipts);
    on("parts", parts);
    on("status", status);
    on("lost", (why) => say("lost", "fail", `The lab does not answer: ${why}. This page goes on when it is back.`));
    source.addEventListener("error", () => {
      say("cut off", "invalid", `${live.program} ui does not answer; this page tries again.`);
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS); // refused: it gives up by itself then
    });
  }

  for (const form of document.forms) {
    write(form);
    form.addEventListener("input", () => write(form));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
  }
  /** Draw what came while drawings were being made. */
  function begin() {
    const { model } = page();
    model.update(early);
    model.tellStates(down);
    const list = waiting;
    waiting = [];
    early = {};
    receipts(list);
  }

  const ready = new MutationObserver(() => {
    if (!page()) return;
    ready.disconnect();
    begin();
  });
  ready.observe(document.documentElement, { attributes: true, attributeFilter: ["data-ready"] });
  listen();
})();
