# The edge proxy, kept while releases come and go behind it.
FROM caddy:2.11.7-alpine
COPY Caddyfile /etc/caddy/Caddyfile
# Certificates that it gets itself, where deploy.tls.name says so, stay in a volume at /data.
RUN mkdir -p /rotation /data && chown 10001:10001 /data
ENV XDG_CONFIG_HOME=/tmp/config XDG_DATA_HOME=/tmp/data
USER 10001:10001
RUN ["caddy", "validate", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
EXPOSE 8000 8443
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
