// What a person would be stopped by on a page: what is cut off, what is too faint to read, and what has no name.

const seen = (node) => node.checkVisibility({ visibilityProperty: true });
const ink = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

function shade(color) {
  ink.clearRect(0, 0, 1, 1);
  ink.fillStyle = color;
  ink.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = ink.getImageData(0, 0, 1, 1).data;
  const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return { light: 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue), isSolid: alpha === 255 };
}

function behind(node) {
  for (let one = node; one; one = one.parentElement) {
    const found = shade(getComputedStyle(one).backgroundColor);
    if (found.isSolid) return found.light;
  }
  return 1;
}

/** Return the texts whose contrast is below that of WCAG AA. */
function faint() {
  const found = [];
  for (const node of document.querySelectorAll("body *:not(svg *):not(option)")) {
    const words = [...node.childNodes]
      .filter((child) => child.nodeType === 3)
      .map((child) => child.data)
      .join("")
      .trim();
    if (!words || !seen(node) || node.closest(".unseen, .skip")) continue;
    const [one, two] = [shade(getComputedStyle(node).color).light, behind(node)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < 4.5) found.push(`faint, ${ratio.toFixed(2)}: ${words.slice(0, 40)}`);
  }
  return found;
}

function nameless() {
  const named = (node) => node.ariaLabel || node.labels?.length || node.caption || node.textContent.trim();
  const nodes = document.querySelectorAll("button, a, input, select, textarea, [role=img], nav, table");
  return [...nodes].filter((node) => seen(node) && !named(node)).map((node) => `without a name: ${node.outerHTML.slice(0, 120)}`);
}

function isBeyond(node, holder) {
  const [inner, outer] = [node.getBoundingClientRect(), holder.getBoundingClientRect()];
  return inner.left < outer.left - 1 || inner.right > outer.right + 1;
}

function cut() {
  const { scrollWidth, clientWidth } = document.documentElement;
  const labels = [...document.querySelectorAll("svg.chart text")].filter((node) => seen(node) && isBeyond(node, node.ownerSVGElement));
  const cutLabels = labels.map((node) => `cut off: ${node.textContent}`);
  return scrollWidth > clientWidth ? [`${scrollWidth - clientWidth} pixels too wide`, ...cutLabels] : cutLabels;
}

window.problems = () => [...cut(), ...faint(), ...nameless()];
