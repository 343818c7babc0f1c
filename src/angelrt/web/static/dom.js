// Builds elements out of text and brings a page up to date in place. Nothing here reads markup: data reaches the page as text alone.

const SVG = "http://www.w3.org/2000/svg";

/** Return an HTML element. `on` holds handlers by event, `key` tells siblings apart; children are nodes, text, or lists of them. */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Return an SVG element, as `h` does. */
export function s(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") listen(node, value);
    else if (name === "key") node.key = value;
    else if (name.startsWith("on") || name === "style") throw new Error(`${name} is no attribute of this page: use on: {...} or a class`);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(node, child);
    else if (child !== undefined && child !== null && child !== false) node.append(child instanceof Node ? child : String(child));
  }
}

function listen(node, handlers) {
  node.handlers = handlers;
  for (const type of Object.keys(handlers)) node.addEventListener(type, dispatch);
}

function dispatch(event) {
  return event.currentTarget.handlers?.[event.type]?.(event);
}

/** Make `old` look and act like `fresh`, keeping its elements: focus, selection, scrolling and what was typed stay. */
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.key !== fresh.key) {
    old.replaceWith(fresh);
    return fresh;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  morphAttributes(old, fresh);
  if (fresh.handlers) listen(old, fresh.handlers);
  morphChildren(old, fresh);
  return old;
}

// What a person has opened, typed or checked belongs to the person.
const THEIRS = { DETAILS: ["open"], INPUT: ["value", "checked"], DIALOG: ["open"] };

function morphAttributes(old, fresh) {
  const kept = THEIRS[old.nodeName] ?? [];
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !kept.includes(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (!kept.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function morphChildren(old, fresh) {
  const next = [...fresh.childNodes];
  const wanted = new Set(next.map((child) => child.key).filter((key) => key !== undefined));
  const keyed = new Map();
  for (const child of [...old.childNodes]) {
    if (child.key === undefined) continue;
    if (wanted.has(child.key) && !keyed.has(child.key)) keyed.set(child.key, child);
    else child.remove(); // before anything is moved: a move would cost its neighbour the focus
  }
  let cursor = old.firstChild;
  for (const child of next) {
    const match = child.key === undefined ? unkeyed(cursor, child) : keyed.get(child.key);
    if (!match) {
      old.insertBefore(child, cursor);
    } else {
      keyed.delete(child.key);
      if (match !== cursor) old.insertBefore(match, cursor);
      cursor = morph(match, child).nextSibling;
    }
  }
  while (cursor) {
    const gone = cursor;
    cursor = cursor.nextSibling;
    gone.remove();
  }
}

function unkeyed(cursor, child) {
  return cursor && cursor.key === undefined && cursor.nodeName === child.nodeName ? cursor : undefined;
}
