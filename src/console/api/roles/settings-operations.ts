/** Operations about the configuration in force on this server, and the shapes of their answers. Pure. */
import * as z from "zod";

export const settingsAnswer = z.object({
  file: z.string().meta({ description: "The name of the file, without its folder." }),
  configHash: z.string(),
  sections: z.array(
    z.object({
      title: z.string(),
      settings: z.array(
        z.object({
          key: z.string().meta({ description: "As in the file, with dots: `broker.lease`." }),
          value: z.unknown().meta({ description: "As written, or the default; with `secret` null." }),
          source: z.enum(["file", "env", "command line", "default"]),
          variable: z.string().nullable().meta({ description: "The environment variable that sets it." }),
          secret: z.boolean().meta({ description: "The value is never shown; `set` says whether there is one." }),
          set: z.boolean(),
          reload: z.enum(["live", "restart"]).meta({ description: "When a change takes effect." }),
          waiting: z.boolean().meta({ description: "The file has another value, which waits for a restart." }),
        }),
      ),
    }),
  ),
  routes: z.number(),
  applied: z.object({ epoch: z.number(), position: z.number(), hash: z.string() }),
});
export type SettingsAnswer = z.infer<typeof settingsAnswer>;

export const settingsOperations = {
  "GET /settings": {
    summary: "The configuration in force on this server, with the source of each value and without secrets",
    role: "viewer",
    status: 200,
    answer: settingsAnswer,
    errors: [],
  },
} as const;
