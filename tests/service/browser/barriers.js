/** What axe would look for, by hand: every way in which the visible page keeps somebody out, in words. */
() => {
  const shown = (e) => e.checkVisibility();
  const all = (selector) => [...document.querySelectorAll(selector)];
  const start = (e) => e.outerHTML.slice(0, 100);
  const ids = (e, attribute) => (e.getAttribute(attribute) || "").split(" ").filter(Boolean);

  function name(e) {
    const labels = [...ids(e, "aria-labelledby").map((id) => document.getElementById(id)), ...(e.labels || [])];
    const own = e.matches("input, select, textarea, meter, progress") ? "" : e.textContent;
    const pictures = [...e.querySelectorAll("img")].map((image) => image.alt);
    const texts = labels.map((label) => label?.textContent);
    return [e.getAttribute("aria-label"), e.title, own, ...texts, ...pictures].join("").trim();
  }
  const controls = "a, button, input, select, textarea, summary, meter, progress, iframe, dialog";
  const nameless = all(`${controls}, section, article, fieldset, [role]:not([role=status], [role=tabpanel]), [tabindex]`)
    .filter((e) => shown(e) && !name(e))
    .map((e) => `no name: ${start(e)}`);
  const blind = all("img:not([alt])").map((e) => `no alt: ${start(e)}`);
  const every = all("[id]").map((e) => e.id);
  const twice = every.filter((id, i) => every.indexOf(id) !== i).map((id) => `id twice: ${id}`);
  const nowhere = ["aria-controls", "aria-describedby", "aria-labelledby", "for"].flatMap((attribute) =>
    all(`[${attribute}]`).flatMap((e) => ids(e, attribute).filter((id) => !document.getElementById(id)).map((id) => `${attribute} leads nowhere: ${id}`)),
  );
  const headings = all("h1").filter(shown).length === 1 ? [] : ["not one h1"];
  const jumping = all("[tabindex]").filter((e) => e.tabIndex > 0).map((e) => `out of order: ${start(e)}`);
  const small = all("button, select, input, nav a")
    .filter(shown)
    .map((e) => [e, (e.closest("label.tick") || e).getBoundingClientRect()])
    .filter(([, box]) => box.width < 24 || box.height < 24)
    .map(([e, box]) => `small, ${box.width} x ${box.height}: ${start(e)}`);

  const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, share, c) => sum + share * linear(colour[c] / 255), 0);
  function ground(e) {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  }
  function contrast(e) {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  const faint = all("body *")
    .filter((e) => [...e.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim()))
    .filter((e) => shown(e) && !e.matches(".unseen, .skip, option, optgroup, :disabled") && contrast(e) < 4.5)
    .map((e) => `faint, ${contrast(e).toFixed(2)}: ${start(e)}`);
  return [...nameless, ...blind, ...twice, ...nowhere, ...headings, ...jumping, ...small, ...faint];
};
