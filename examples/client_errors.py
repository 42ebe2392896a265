"""What can go wrong, from the particular to the general. Retries have been made when an error gets here."""

from coe_client import BadRequest, Coe, CoeError, NotFound, RateLimited, StreamBroken

with Coe(timeout=60, max_retries=3) as coe:
    for model in ("auto", "nobody"):
        try:
            print(coe.chat_stream("hello", model=model).read().text)
        except StreamBroken as error:
            print(f"broken off after {error.partial.text!r}")
        except RateLimited as error:
            print(f"come back in {error.retry_after} s")
        except NotFound as error:
            print(f"no such model: {error.message}")
        except BadRequest as error:
            print(f"wrong at {error.param}: {error.message}")
        except CoeError as error:
            print(f"request {error.request_id} failed: {error}")
