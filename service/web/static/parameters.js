/** A form made from the JSON schema of an attack's parameters: numbers, choices, yes or no. What is left empty is the default. */

import { el, field, options } from "./dom.js";

export function parameters(schema) {
  const controls = Object.entries(schema.properties ?? {}).map(([name, property]) => [name, control(property), property]);
  const usable = controls.filter(([, made]) => made);
  const values = () => Object.fromEntries(usable.map(([name, made]) => [name, made.value()]).filter(([, value]) => value !== undefined));
  const fields = usable.map(([name, made, property]) => field(name, made.element, property.description));
  return { element: el("div", { class: "form" }, fields.length ? fields : "It has none."), values };
}

function control(property) {
  const choices = property.type === "boolean" ? ["true", "false"] : property.enum;
  if (choices) {
    const select = el("select");
    options(select, [["", `default: ${property.default}`], ...choices.map(String)], "");
    return { element: select, value: () => (select.value === "" ? undefined : choice(property, select.value)) };
  }
  if (property.type !== "integer" && property.type !== "number") return null;
  const [min, max] = [property.minimum ?? property.exclusiveMinimum, property.maximum ?? property.exclusiveMaximum];
  const step = property.type === "integer" ? 1 : "any";
  const input = el("input", { type: "number", min, max, step, placeholder: property.default });
  return { element: input, value: () => (input.value === "" ? undefined : Number(input.value)) };
}

const choice = (property, value) => (property.type === "boolean" ? value === "true" : property.enum.find((one) => String(one) === value));
