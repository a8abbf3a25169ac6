// Elements, with all text as text: names come from whoever ran the network.

export function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...content.filter((one) => one !== null && one !== undefined));
  return made;
}

export function select(label, options, onchange) {
  const made = element("select", { onchange: () => onchange(made.value) });
  let there = "";
  /** Offer others; what was chosen stays chosen where it is still offered. */
  const offer = (list) => {
    const text = JSON.stringify(list);
    if (text === there) return;
    there = text;
    const { value: chosen } = made;
    made.replaceChildren(...list.map(([value, title]) => element("option", { value }, title)));
    if (list.some(([value]) => String(value) === chosen)) made.value = chosen;
  };
  offer(options);
  return { box: element("label", { class: "field" }, element("span", {}, label), made), input: made, offer };
}

/** One of several, as buttons beside each other: radio buttons, so that arrow keys move between them. */
export function choice(name, label, options, chosen, onchange) {
  const box = element("fieldset", { class: "choice" }, element("legend", { class: "sr-only" }, label));
  const inputs = new Map();
  /** One more of them. */
  const add = ([value, text, why]) => {
    const input = element("input", {
      type: "radio", name, value, checked: value === chosen, disabled: Boolean(why), onchange: () => onchange(value),
    });
    inputs.set(value, input);
    box.append(element("label", { title: why ?? null }, input, element("span", {}, text)));
  };
  options.forEach(add);
  return { box, inputs, add };
}

/** What a chart's tooltip shows: lines of text, the first one strong. */
export function lines(first, ...rest) {
  const box = element("div", { class: "tip" }, element("strong", {}, first));
  for (const one of rest) if (one) box.append(element("div", {}, one));
  return box;
}

export const reducedMotion = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
