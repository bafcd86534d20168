/** Refusals that the commands about users share. */
import { refuseCommand } from "../performed.ts";

export const unknownUser = refuseCommand("not-found", "there is no such user");
export const erasedUser = refuseCommand("erased", "the user is erased");
