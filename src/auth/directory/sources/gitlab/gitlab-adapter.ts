/** GitLab adapter: `provider: gitlab` (docs/directories-gitlab.md). */
import * as z from "zod";
import { defineAdapter, httpsUrl, text } from "../../adapter-contract.ts";
import { createGitlabSource, gitlabLimit } from "./gitlab-source.ts";

const settings = z
  .strictObject({
    /** The top group: its number, or its full path. */
    group: z.union([z.number().int().positive().transform(String), text()]).optional(),
    /** With the scope `read_api`. */
    token: text(),
    url: httpsUrl().default(new URL("https://gitlab.com/")),
    /** List everyone in the installation, and every group unless `group` names one. Needs an administrator's token. */
    all_users: z.boolean().default(false),
  })
  .refine(({ group, all_users }) => all_users || group !== undefined, {
    message: "is missing, and all_users is not set",
    path: ["group"],
  });

export const gitlabAdapter = defineAdapter({
  provider: "gitlab",
  settings,
  secrets: ["token"],
  open: ({ group, token, url, all_users }, parts) =>
    createGitlabSource({
      http: parts.http({ limitOf: gitlabLimit }),
      api: new URL("api/v4/", url.href.endsWith("/") ? url : `${url.href}/`),
      group: group ?? null,
      token,
      listsAllUsers: all_users,
    }),
});
