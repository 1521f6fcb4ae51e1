/** Dialogs about people: add somebody, import, export, erase. */

import { ApiError, fetchPart, query } from "./api.js";
import { addPerson, ARCHIVE_MS, erasePerson, importPeople, importReport, previewErasure } from "./api-records.js";
import { confirmThen, showDialog } from "./dialog.js";
import { h, setText, toast } from "./dom.js";
import { DropZone } from "./drop-zone.js";
import { PersonForm } from "./person-form.js";
import { pictures, refusal } from "./people-words.js";

// ── Add ─────────────────────────────────────────────────────────────────────────────────────────────

export function showAddPerson(whenAdded) {
  if (document.querySelector("dialog.add-person")) return;
  const fields = new PersonForm("new-person");
  const submit = h("button", { type: "submit", class: "button primary" }, "Add and choose pictures");
  const form = h(
    "form",
    {
      class: "form",
      novalidate: true,
      onsubmit: async (event) => {
        event.preventDefault();
        fields.clear();
        submit.disabled = true;
        try {
          const person = await addPerson(fields.values());
          dialog.close();
          whenAdded(person);
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          fields.complain(error);
        } finally {
          submit.disabled = false;
        }
      },
    },
    ...fields.parts,
    h("div", { class: "dialog-actions" }, h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Cancel"), submit),
  );
  const dialog = showDialog("Add a person", "add-person", form);
  fields.nameField.focus();
}

// ── Import ──────────────────────────────────────────────────────────────────────────────────────────

const ROWS_SHOWN = 200;
const PROGRESS_MS = 2000;

export function showImport(whenDone) {
  const report = h("div", { class: "import-report", role: "status" });
  const zone = new DropZone({
    id: "import-file",
    label: "Choose a ZIP or CSV file",
    hint: "or drop it here",
    accept: ".zip,.csv,application/zip,text/csv",
    take: ([file]) => file && run(file),
  });
  const dialog = showDialog(
    "Import people",
    "import",
    h("p", {}, "A ZIP file with a folder for each person, or with a people.csv and pictures; a CSV file alone adds people without pictures. An export can be imported again."),
    zone.element,
    report,
  );

  async function run(file) {
    zone.busy(true);
    report.replaceChildren(h("p", {}, `Importing ${file.name}. Each picture is looked at; this can take minutes.`));
    const type = file.name.toLowerCase().endsWith(".csv") ? "text/csv" : "application/zip";
    const progress = h("p", { class: "hint" });
    report.append(progress);
    const timer = setInterval(() => showProgress(progress), PROGRESS_MS);
    try {
      report.replaceChildren(...reportOf(await importOrWait(file, type)));
      whenDone();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      report.replaceChildren(h("p", { class: "form-error" }, [error.message, ...error.problems].join(". ")));
    } finally {
      clearInterval(timer);
      zone.busy(false);
    }
  }
  return dialog;
}

/** Its report; where a proxy did not wait for the answer, it is asked for until the import has ended. */
async function importOrWait(file, type) {
  try {
    return await importPeople(file, type);
  } catch (error) {
    if (!(error instanceof ApiError) || ![0, 502, 504].includes(error.status)) throw error;
    let report = await importReport();
    if (!report.running) throw error;
    while (report.running) {
      await new Promise((resolve) => setTimeout(resolve, PROGRESS_MS));
      report = await importReport();
    }
    return report;
  }
}

async function showProgress(element) {
  try {
    const { running, rows = [], faces_added: added = 0 } = await importReport();
    if (running) setText(element, `${rows.length === 1 ? "1 person" : `${rows.length} people`} done, ${pictures(added)} enrolled.`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // the answer tells
  }
}

/** What became of an import, the rows with problems first. */
function reportOf(found) {
  const { created = 0, updated = 0, unchanged = 0, refused = 0, faces_added: added = 0, pictures_refused: lost = 0, rows = [] } = found;
  const people = [`${created} added`, `${updated} changed`, `${unchanged} as before`];
  if (refused) people.push(`${refused} refused`);
  const summary = `People: ${people.join(", ")}. ${pictures(added)} enrolled${lost ? `, ${lost} refused` : ""}.`;
  const troubled = rows.filter((row) => row.action === "refused" || row.problems?.length);
  return [
    found.error ? h("p", { class: "form-error" }, found.error) : null,
    h("p", { class: "import-summary" }, summary),
    troubled.length
      ? h(
          "ul",
          { class: "import-rows" },
          ...troubled.slice(0, ROWS_SHOWN).map((row) =>
            h(
              "li",
              {},
              h("strong", {}, row.name || `Row ${row.row}`),
              row.message ? `: ${row.message}` : "",
              ...(row.problems ?? []).map((problem) => {
                const { title, text } = refusal(problem);
                return h("p", { class: "hint" }, `${problem.picture}: ${title}. ${text}`);
              }),
            ),
          ),
        )
      : null,
  ].filter(Boolean);
}

// ── Export and erase ────────────────────────────────────────────────────────────────────────────────

/** Fetch the archive, which needs the token, in as many parts as it has, and give them to the browser as downloads. */
export async function startExport(asker) {
  asker.disabled = true;
  toast("The export is being made…");
  try {
    const day = new Date().toISOString().slice(0, 10);
    let [cursor, part] = [null, 1];
    do {
      const { blob, next } = await fetchPart(`/api/people/export${query({ cursor })}`, { timeout: ARCHIVE_MS });
      save(blob, `camfleet-people-${day}${part > 1 || next ? `-${part}` : ""}.zip`);
      [cursor, part] = [next, part + 1];
    } while (cursor);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message, "error");
  } finally {
    asker.disabled = false;
  }
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser has taken it over by then
}

const events = (count) => (count === 1 ? "1 event" : `${count} events`);

export function confirmErase(person, whenErased) {
  const own = h("li", {}, "all pictures of this person and what was computed from them");
  const told = h("li", {}, "their name in every event; the pictures of those events, too");
  const what = h("ul", { class: "bullets" }, own, told, h("li", {}, "them on every camera’s worker, within seconds"));
  const box = h("input", { type: "checkbox", id: "erase-lookalikes", checked: true });
  const found = h("span", {}, "Looking for events that show this face without a name…");
  const lookalikes = h("p", { class: "lookalikes", role: "status" }, h("label", { for: box.id }, box, " ", found));
  const looking = new AbortController();
  const dialog = confirmThen({
    title: `Erase ${person.name}?`,
    name: "erase",
    text: [
      "This removes, for good:",
      what,
      lookalikes,
      "A line without the name stays in the audit log. Exports made before are not reached, nor are events in which the face is hardly to be seen: search by a picture first, and delete those.",
    ],
    verb: "Erase for good",
    typed: person.name,
    act: async () => {
      const { erased } = await erasePerson(person.id, { lookalikes: box.checked ? "erase" : "keep" });
      toast(`Erased: ${pictures(erased.faces)}, and from ${events(erased.events + (erased.lookalikes ?? 0))}`);
      whenErased();
    },
  });
  dialog.addEventListener("close", () => looking.abort());
  showPreview(person.id, { own, told, found }, looking.signal);
}

async function showPreview(id, { own, told, found }, signal) {
  try {
    const preview = await previewErasure(id, { signal });
    setText(own, `everything of this person: ${pictures(preview.pictures)} with those of their events, and what was computed from them`);
    setText(told, `their name and face in ${events(preview.events)}`);
    setText(
      found,
      preview.lookalikes
        ? `Also ${events(preview.lookalikes)} (${pictures(preview.lookalike_pictures)}) that show this face without a name`
        : "Also events that show this face without a name: none now",
    );
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code !== "aborted") setText(found, `Also events that show this face without a name: ${error.message}`);
  }
}
