// Requests to the server. Every error is an Error whose message is the server's sentence.

async function answer(response) {
  if (response.ok) return response;
  let sentence = `The server answered with status ${response.status}.`;
  try { sentence = (await response.json()).error ?? sentence; } catch { /* not ours: keep the status */ }
  throw new Error(sentence);
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached: is it still running?");
  }
}

const posted = (body, signal) => ({
  method: "POST", signal, body: JSON.stringify(body), headers: { "content-type": "application/json" },
});

export const get = async (path) => (await answer(await reach(path))).json();
export const post = async (path, body, signal) => (await answer(await reach(path, posted(body, signal)))).json();
export const postForBlob = async (path, body) => (await answer(await reach(path, posted(body)))).blob();

export async function upload(path, file) {
  return (await answer(await reach(path, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } }))).json();
}

// Calls `take` with every event of a stream, as they come.
export async function stream(path, body, take, signal) {
  const reader = (await answer(await reach(path, posted(body, signal)))).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", ended = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.event === "error") throw new Error(event.error);
      if (event.event === "end") ended = true;
      else take(event);
    }
  }
  if (!ended) throw new Error("The server ended the answer early: it was cancelled there.");
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
export const levelsIn = (text, levels) => (levels <= 256 ? bytes(text) : new Uint16Array(bytes(text).buffer));
export const floatsIn = (text) => new Float32Array(bytes(text).buffer);
export const numbersIn = (text) => new Uint32Array(bytes(text).buffer);
export const blobOf = (text) => new Blob([bytes(text)]);
