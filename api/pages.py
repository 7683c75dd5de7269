"""Pages that need nothing else: each carries its style and script, under a policy that allows no others."""

import secrets

from fastapi.responses import HTMLResponse
from jinja2 import Environment

_TEMPLATES = Environment(autoescape=True)

LOG_IN = _TEMPLATES.from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Siaran: log in</title>
<style nonce="{{ nonce }}">
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
  main { max-width: 20rem; margin: 15vh auto; padding: 0 1rem; }
  h1 { font-size: 1.25rem; }
  label { display: block; margin-top: 1rem; }
  input, button { box-sizing: border-box; width: 100%; padding: .5rem; font: inherit; }
  button { margin-top: 1.5rem; }
</style>
</head>
<body>
<main>
<h1>Log in as an administrator</h1>
<p id="message" role="status">{{ message }}</p>
<form>
<label>Email <input name="email" type="email" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button>
</form>
</main>
<script nonce="{{ nonce }}">
  document.forms[0].addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = JSON.stringify(Object.fromEntries(new FormData(event.target)));
    const answer = await fetch("/login", {method: "POST", headers: {"Content-Type": "application/json"}, body});
    if (answer.ok) location.reload();
    else document.getElementById("message").textContent = (await answer.json()).detail;
  });
</script>
</body>
</html>
""")


def log_in_page(message: str, status: int) -> HTMLResponse:
    """A form that logs in and then loads the address it stands at once more."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    page = LOG_IN.render(message=message, nonce=nonce)
    return HTMLResponse(page, status_code=status, headers={"Content-Security-Policy": policy})
