// An authorization server of npm oidc-provider for the tests, with clients of fixed names and secrets.
//
//   node server.mjs PARTS PORT PLAN
//
// PARTS is where the package is installed. PLAN is a JSON file that is read at each request for a token: `life` of an
// access token in seconds, `more` (a scope that is given unasked), `jwks` (a file with the keys of whoever may say
// who a person is). oidc-provider has no RFC 8693: its grant is added here with the package's own means, checks the
// subject token with `jose`, and gives an access token in that person's name.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [parts, port, planFile] = process.argv.slice(2);
const require = createRequire(`${parts}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { default: Provider, errors } = await load('oidc-provider');
const jose = await load('jose');

const issuer = `http://127.0.0.1:${port}`;
const grantType = 'urn:ietf:params:oauth:grant-type:token-exchange';
const typeOf = (word) => `urn:ietf:params:oauth:token-type:${word}`;
const plan = () => JSON.parse(readFileSync(planFile, 'utf8'));
const api = 'https://api.example.com/';

const client = (id, secret, method, grants) => ({
  client_id: id,
  client_secret: secret,
  token_endpoint_auth_method: method,
  grant_types: grants,
  redirect_uris: [],
  response_types: [],
  scope: 'orders:read orders:write',
});

const provider = new Provider(issuer, {
  clients: [
    client('broker', 'a secret: with % and +', 'client_secret_basic', ['client_credentials', grantType]),
    client('poor', 'poor-secret', 'client_secret_post', []),
    client('judge', 'judge-secret', 'client_secret_post', []),
  ],
  scopes: ['orders:read', 'orders:write', 'orders:all'],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    // The judge looks at tokens of others.
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo(ctx, resource) {
        if (resource !== api) throw new errors.InvalidTarget();
        // Signed, so that the resource server asks nobody.
        return { scope: 'orders:read orders:write', accessTokenFormat: 'jwt', audience: api };
      },
    },
  },
  ttl: { ClientCredentials: () => plan().life, AccessToken: () => plan().life, Grant: 3600 },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});

// Whom the subject token names, if this server trusts who signed it.
async function person(token) {
  const keys = jose.createLocalJWKSet(JSON.parse(readFileSync(plan().jwks, 'utf8')));
  const checks = { issuer: 'https://broker.example.com', audience: issuer, requiredClaims: ['exp', 'sub'] };
  const { payload } = await jose.jwtVerify(token, keys, checks);
  return payload.sub;
}

provider.registerGrantType(
  grantType,
  async (ctx) => {
    const { params, client: asking } = ctx.oidc;
    if (params.subject_token_type !== typeOf('jwt')) throw new errors.InvalidRequest('unsupported subject_token_type');
    // RFC 8693 section 2.2.2 wants invalid_request for a subject token that is not good.
    const subject = await person(params.subject_token).catch((error) => {
      throw new errors.InvalidRequest(`subject_token: ${error.message}`);
    });
    const scope = params.scope ?? '';
    const allowed = new Set(asking.scope.split(' '));
    if (!scope.split(' ').every((word) => allowed.has(word))) throw new errors.InvalidScope('not allowed', scope);
    const grant = new provider.Grant({ clientId: asking.clientId, accountId: subject });
    grant.addOIDCScope(scope);
    const grantId = await grant.save();
    const token = new provider.AccessToken({ accountId: subject, client: asking, grantId, gty: grantType, scope });
    ctx.oidc.entity('AccessToken', token);
    const value = await token.save();
    ctx.body = {
      access_token: value,
      issued_token_type: typeOf('access_token'),
      token_type: token.tokenType,
      expires_in: token.expiration,
      scope,
    };
  },
  ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'audience', 'scope'],
);

provider.use(async (ctx, next) => {
  await next();
  const { more } = plan();
  if (ctx.path === '/token' && ctx.status === 200 && more) ctx.body.scope = `${ctx.body.scope} ${more}`;
});

provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
