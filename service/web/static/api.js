/** Calls of the service: the access key goes along, and what goes wrong comes back in words. */

const KEY = "gauntlet-key";
let question = null; // one dialog, however many calls wait for it
let askForKey = async () => null;

/** `ask(reason)` gives a key, or null to go on without. */
export function whenUnauthorized(ask) {
  askForKey = ask;
}

export const key = () => sessionStorage.getItem(KEY);

export function keepKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** An answer that is an error, or none; `status` is 0 where there was none. */
export class Failure extends Error {
  constructor(words, status, code) {
    super(words);
    this.status = status;
    this.code = code;
  }
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  const said = body?.error?.message;
  const words = said ? said[0].toUpperCase() + said.slice(1) : `The service answered ${response.status}, without saying why`;
  const wait = response.headers.get("Retry-After");
  return new Failure(`${words}.${wait ? ` Try again in ${wait} s.` : ""}`, response.status, body?.error?.code ?? null);
}

/** The answer, once it is a good one. Paths are relative, so that the page works behind a prefix. */
export async function call(method, path, { json, body, headers = {}, signal } = {}) {
  const given = key();
  const response = await fetch(path.replace(/^\//, ""), {
    method,
    signal,
    body: json === undefined ? body : JSON.stringify(json),
    headers: {
      ...headers,
      ...(json === undefined ? {} : { "Content-Type": "application/json" }),
      ...(given ? { Authorization: `Bearer ${given}` } : {}),
    },
  }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Failure("The service does not answer. Is it still running?", 0, null);
  });
  if (response.ok) return response;
  const failed = await failure(response);
  if (response.status !== 401) throw failed;
  if (given === key()) {
    question ??= askForKey(failed.message).finally(() => (question = null));
    if (!(await question)) throw failed;
  }
  return call(method, path, { json, body, headers, signal });
}

export const get = async (path, given) => (await call("GET", path, given)).json();
export const post = async (path, json, given) => (await call("POST", path, { json, ...given })).json();
