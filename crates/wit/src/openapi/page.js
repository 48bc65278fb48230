
"use strict";
// Each field is turned into JSON text by its kind, and the texts are joined: numbers keep every digit that was typed.
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
const json = {
  text: (value) => JSON.stringify(value),
  json: (value) => value,
  float: (value) => (/^(NaN|-?Infinity)$/.test(value.trim()) ? JSON.stringify(value.trim()) : value),
  bytes: (value) => JSON.stringify(base64(value)),
};
const members = (form) =>
  [...form.querySelectorAll("[data-kind]")].map(
    (field) => `${JSON.stringify(field.name)}: ${json[field.dataset.kind](field.value)}`);
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

async function call(form) {
  const raw = form.elements.namedItem("raw");
  const file = raw?.files?.[0];
  const body = file ?? `{${members(form).join(", ")}}`;
  const type = file ? raw.dataset.type : "application/json";
  const status = form.querySelector(".status");
  const answer = form.querySelector(".answer");
  const curl = form.querySelector(".curl");
  const url = new URL(form.dataset.path.slice(1), document.baseURI).href.split("#")[0];
  curl.querySelector("pre").textContent = file
    ? `curl -H 'content-type: ${type}' --data-binary @${quoted(file.name)} ${quoted(url)}`
    : `curl --json ${quoted(body)} ${quoted(url)}`;
  curl.hidden = false;
  status.textContent = "calling…";
  const began = performance.now();
  const took = () => `${(performance.now() - began).toFixed(0)} ms`;
  try {
    const response = await fetch(url, {
      method: "POST", body, headers: { "content-type": type, accept: form.dataset.accept },
    });
    const received = await response.headers.get("content-type") ?? "";
    answer.replaceChildren();
    if (received.startsWith("application/octet-stream")) {
      const blob = await response.blob();
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = "result";
      link.textContent = `${blob.size} bytes`;
      answer.append(link);
      if (blob.size <= 65536) {
        const text = await blob.text();
        if (!text.includes("\ufffd") && !text.includes("\0")) answer.append(`\n${text}`);
      }
    } else {
      const text = await response.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* as it is */ }
      answer.append(shown === "" ? "(nothing)" : shown);
    }
    answer.classList.toggle("bad", !response.ok);
    status.textContent = `${response.status} ${response.statusText} in ${took()}`;
  } catch (error) {
    answer.replaceChildren(String(error));
    answer.classList.add("bad");
    status.textContent = `no answer after ${took()}`;
  }
  answer.hidden = false;
}

for (const form of document.forms) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    await call(form);
    button.disabled = false;
  });
}
