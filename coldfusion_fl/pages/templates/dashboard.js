"use strict";
// Asks for the state of the run every few seconds. All texts become text nodes, so no name can become markup.
(() => {
  const PAUSE = 2000;
  const ENDS = {
    finished: "The run is finished",
    stopped: "The run was stopped",
    failed: "The run failed",
    lost: "The run was lost, because its process ended early,",
    unknown: "The state of the run is not known",
  };
  const SVG = "http://www.w3.org/2000/svg";
  const at = (id) => document.getElementById(id);
  const element = (name, properties = {}, ...children) => {
    const made = document.createElement(name);
    Object.assign(made, properties);
    made.append(...children.map((child) => child ?? ""));
    return made;
  };
  const known = (value) => value !== null && value !== undefined;
  const fixed = (value, digits) => (known(value) ? value.toFixed(digits) : "–");
  const significant = (value) => (known(value) ? Number(value.toPrecision(4)).toString() : "–");
  const duration = (seconds) => {
    if (!known(seconds)) return "–";
    if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
    const whole = Math.round(seconds);
    const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${rest} s` : `${rest} s`;
  };
  const ago = (time) => (known(time) ? `${duration(Date.now() / 1000 - time)} ago` : "never");
  const clock = (time) => new Date(time * 1000).toLocaleTimeString();
  const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const row = (...cells) => element("tr", {}, ...cells);
  const cell = (value, className = "") => element("td", { className }, String(value));
  // A text stays at its end while it is there, and where the reader scrolled to otherwise.
  const fill = (box, lines) => {
    const text = lines.join("\n");
    if (box.textContent === text) return;
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.textContent = text;
    if (follows) box.scrollTop = box.scrollHeight;
  };

  const spark = (points) => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 200 56");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const losses = points.map(([, loss]) => loss);
    const [low, high] = [Math.min(...losses), Math.max(...losses)];
    const positions = points.map(([, loss], index) => {
      const across = points.length > 1 ? 2 + (196 * index) / (points.length - 1) : 100;
      const down = high > low ? 52 - 48 * ((loss - low) / (high - low)) : 28;
      return `${across.toFixed(1)},${down.toFixed(1)}`;
    });
    // A line for each round, because a contributor starts each with another base. One point is a line without length.
    const simulated = points.length > new Set(points.map(([round]) => round)).size;
    const groups = simulated ? Map.groupBy(positions, (_, index) => points[index][0]) : new Map([[0, positions]]);
    for (const group of groups.values()) {
      const line = document.createElementNS(SVG, "polyline");
      line.setAttribute("class", "line k0");
      line.setAttribute("vector-effect", "non-scaling-stroke");
      line.setAttribute("points", (group.length > 1 ? group : [group[0], group[0]]).join(" "));
      svg.append(line);
    }
    return svg;
  };

  const showStatus = (status, left) => {
    const done = status.round ?? 0;
    const rounds = known(status.rounds) ? ` of ${status.rounds}` : "";
    const ended = status.state !== "running";
    at("headline").textContent = ended
      ? `${ENDS[status.state] ?? "The run ended"} after round ${done}${rounds}`
      : `Round ${done}${rounds} is done; the run goes on`;
    at("report").textContent = ended ? "Report of the run" : "Report of the rounds so far";
    const rest = known(left) ? `; about ${duration(left)} left` : "";
    at("phase").textContent = status.reason ? `${status.phase}: ${status.reason}` : `${status.phase}${rest}`;
    const share = status.rounds ? Math.min(1, done / status.rounds) : 0;
    at("bar").setAttribute("aria-valuemax", String(status.rounds ?? 0));
    at("bar").setAttribute("aria-valuenow", String(done));
    at("bar").firstElementChild.style.width = `${(100 * share).toFixed(1)}%`;
    const lost = status.lost ? ` Restarted ${status.lost} times.` : "";
    at("disk").textContent =
      `${status.bases.length} bases on disk, ${gib(status.bytes)}; ${gib(status["free-bytes"])} free.${lost}`;
    at("connection").hidden = status.members.every((member) => member.online === null);
    at("members").replaceChildren(
      ...status.members.map((member) => {
        const online = member.online === null ? "" : member.online ? "online" : "offline";
        const activity = member.seen || member.activity !== "idle" ? member.activity : "evaluates only";
        const bad = ["rejected", "missing", "excluded"].includes(member.activity);
        return row(
          element("th", { scope: "row", className: "name" }, member.name),
          at("connection").hidden ? "" : cell(online, online === "offline" ? "bad" : ""),
          element("td", {}, element("span", { className: bad ? "badge bad" : "badge" }, activity)),
          cell(member.fused, "right"),
          cell(member.rejected, member.rejected ? "right bad" : "right"),
          cell(ago(member["last-heard"]), "nowrap"),
          cell(member.reason, "reason"),
        );
      }),
    );
  };

  const show = (live) => {
    showStatus(live.status, live["seconds-left"]);
    at("losses").replaceChildren(
      ...Object.entries(live.losses).map(([name, points]) => {
        const [, loss] = points[points.length - 1];
        const caption = element("figcaption", { title: name }, element("span", {}, name), element("strong", {}, significant(loss)));
        return element("figure", {}, caption, spark(points));
      }),
    );
    if (!at("losses").children.length) at("losses").append(element("p", { className: "muted" }, "No loss has arrived yet."));
    at("rounds").replaceChildren(
      ...[...live.rounds].reverse().map((one) =>
        row(
          element("th", { scope: "row" }, String(one.round)),
          cell(one.reason ? `${one.outcome}: ${one.reason}` : one.outcome),
          cell(one.fused, "right"),
          cell(one.rejected, one.rejected ? "right bad" : "right"),
          cell(significant(one.norm), "right"),
          cell(fixed(one.score, 2), "right"),
          cell(duration(one.seconds), "right nowrap"),
          element("td", {}, element("span", { className: "mono" }, one.sha256.slice(0, 10))),
        ),
      ),
    );
    at("problems").replaceChildren(
      ...[...live.problems].reverse().map(([time, text]) =>
        element("li", {}, element("span", { className: "muted" }, `${clock(time)} `), text),
      ),
    );
    if (!live.problems.length) at("problems").append(element("li", { className: "muted" }, "None so far."));
    fill(at("events"), live.events.map(([time, text]) => `${clock(time)}  ${text}`));
    fill(at("log"), live.log.length ? live.log : ["The log is empty."]);
  };

  const trouble = (text) => {
    at("trouble").hidden = !text;
    at("trouble-text").textContent = text;
  };

  const ask = async () => {
    try {
      return await fetch("live.json", { cache: "no-store" });
    } catch {
      throw new Error("The dashboard's server does not answer. Start it again: coldfusion dashboard RUN");
    }
  };

  const update = async () => {
    const began = performance.now();
    let pause = PAUSE;
    try {
      const response = await ask();
      const live = await response.json();
      if (!response.ok) throw new Error(live.error);
      show(live);
      trouble("");
      // A run that ended may be resumed, but there is no hurry.
      if (live.status.state !== "running") pause = 5 * PAUSE;
    } catch (reason) {
      trouble(reason.message);
    }
    // Reading the folder of a long run takes a while, and must not take the processor from the run.
    setTimeout(update, Math.max(pause, 5 * (performance.now() - began)));
  };
  update();
})();
