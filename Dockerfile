# Cardea's image: the compiled program and its production dependencies on Node's slim image, run by an unprivileged user.
#
#   docker build -t cardea .
#   docker run -v ./cardea.yaml:/etc/cardea/cardea.yaml:ro -v cardea-data:/var/lib/cardea --read-only -p 443:8443 cardea
#
# It writes only to /var/lib/cardea, so the root file system may be read-only. The image contains no secrets: mount them
# as files and name them in the configuration (shared_secret_file and so on). See docs/deploy.md.

FROM node:26-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
COPY bin ./bin
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/build.ts scripts/keep-code.ts scripts/program.mjs scripts/node-http.cjs ./scripts/
COPY src ./src
RUN npm run build

# The optional dependencies are the Node that a checkout brings for itself, and native accelerators tied to a machine.
FROM node:26-slim AS dependencies
WORKDIR /opt/cardea
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm \
    npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund \
 && find node_modules -type f \( -name '*.map' -o -name '*.ts' -o -name '*.mts' -o -name '*.cts' \) -delete

FROM node:26-slim
LABEL org.opencontainers.image.title="Cardea" \
      org.opencontainers.image.description="An identity-aware access proxy" \
      org.opencontainers.image.licenses="Apache-2.0"
# glibc's default, given, so that it does not grow: an idle process returns 3 MB more of its start.
ENV NODE_ENV=production MALLOC_TRIM_THRESHOLD_=131072
WORKDIR /opt/cardea
RUN install -d -o node -g node -m 0700 /var/lib/cardea \
 && ln -s /opt/cardea/bin/cardea.cjs /usr/local/bin/cardea
COPY LICENSE package.json cardea.dev.yaml ./
COPY bin ./bin
COPY --from=dependencies /opt/cardea/node_modules ./node_modules
COPY --from=build /build/dist ./dist

# By number, so that an orchestrator can check that it is not root (`node` in the base image).
USER 1000:1000
WORKDIR /var/lib/cardea
VOLUME /var/lib/cardea

# Calls /readyz on loopback. If a supervisor restarts unhealthy containers, use `--live`: docs/deploy.md, "Health".
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["cardea", "health"]

# Node is process 1: it handles SIGTERM itself, drains and exits. It starts no children that would have to be reaped.
ENTRYPOINT ["node", "/opt/cardea/bin/cardea.cjs"]
CMD ["run", "-c", "/etc/cardea/cardea.yaml"]
