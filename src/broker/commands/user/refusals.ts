/** Refusals that the commands about users share. */
import { refused } from "../performed.ts";

export const unknownUser = refused("not-found", "there is no such user");
export const erasedUser = refused("erased", "the user is erased");
