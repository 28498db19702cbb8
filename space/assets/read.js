// The Read tab: pages with their systems boxed, and the sheet of the page that is looked at.
(() => {
  "use strict";
  const Intermezzo = (window.Intermezzo = window.Intermezzo || {});
  let pages = [];
  let shown = -1;

  function element(kind, classes, text = "") {
    const made = document.createElement(kind);
    made.className = classes;
    made.textContent = text;
    return made;
  }

  function drawPage(root, page) {
    const frame = element("div", "im-page");
    const picture = element("img", "");
    picture.src = page.picture;
    picture.alt = page.name;
    frame.append(picture);
    page.systems.forEach((system, index) => {
      const [left, top, right, bottom] = system.box;
      const box = element("button", "im-system");
      box.type = "button";
      box.dataset.doubt = system.doubtful.length ? "yes" : "no";
      box.classList.toggle("im-waiting", !page.text && !page.problem);
      box.setAttribute("aria-label", `${root.dataset.system} ${index + 1}. ${system.words}`);
      box.title = system.words;
      box.append(element("span", "im-number", String(index + 1)));
      Object.assign(box.style, {
        left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%`,
      });
      box.addEventListener("click", () => jumpTo(system.firstBar));
      frame.append(box);
    });
    root.replaceChildren(frame);
  }

  // A click on a box brings the music there.
  function jumpTo(bar) {
    const api = Intermezzo.sheet("im-read-sheet").api;
    const found = api?.score?.masterBars[bar];
    if (!found) return;
    api.tickPosition = found.start;
    api.boundsLookup?.findMasterBarByIndex(bar);
    document.getElementById("im-read-sheet").scrollIntoView({ behavior: "smooth", block: "nearest" });
  }

  function look(index) {
    const page = pages[index];
    const root = document.getElementById("im-read-pages");
    drawPage(root, page);
    const doubtful = page.systems.flatMap((system) => system.doubtful.map((bar) => system.firstBar + bar));
    const problem = document.getElementById("im-read-problem");
    problem.textContent = page.problem || "";
    const sheet = Intermezzo.sheet("im-read-sheet");
    const key = `${index} ${page.name} ${page.text}`;
    if (shown !== key) {
      shown = key;
      sheet.show(page.text || "", doubtful, page.name);
    }
    document.querySelectorAll("#im-read-tabs button").forEach((button, place) => {
      button.setAttribute("aria-pressed", String(place === index));
    });
  }

  Intermezzo.read = (payload) => {
    const answer = typeof payload === "string" ? JSON.parse(payload || "{}") : payload;
    const before = pages.length;
    pages = answer.pages || [];
    const bar = document.getElementById("im-read-tabs");
    if (!pages.length) {
      document.getElementById("im-read-pages").replaceChildren();
      document.getElementById("im-read-problem").textContent = "";
      shown = -1;
      bar.replaceChildren();
      return;
    }
    const current = [...bar.children].findIndex((button) => button.getAttribute("aria-pressed") === "true");
    const labels = pages.length > 1 ? pages : [];
    bar.replaceChildren(
      ...labels.map((page, index) => {
        const button = element("button", "im-pill", `${bar.dataset.page} ${index + 1}`);
        button.type = "button";
        button.addEventListener("click", () => look(index));
        return button;
      }),
    );
    look(before && current >= 0 && current < pages.length ? current : 0);
  };
})();
