// The page's way to its worlds: a server. An exported site has another module of this name, for which
// the worlds are played in the tab (genie/export/web).

export { Connection, refusal } from "./connection.js";

/** Formats in which the last minute can be saved. */
export const videoFormats = ["mp4", "gif"];

/** What may compute the worlds, for the player to choose: the server decides. */
export const devices = [];

/** The worlds that are served. */
export async function listWorlds() {
  return (await fetch("worlds")).json();
}

/** What a world makes of a picture, as a picture; null where it cannot tell. */
export async function reconstruct(world, picture) {
  const address = `worlds/${encodeURIComponent(world.name)}/reconstruction`;
  const response = await fetch(address, { method: "POST", body: picture });
  return response.ok ? response.blob() : null;
}
