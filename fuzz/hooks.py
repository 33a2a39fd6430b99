"""What schemathesis has to know of the API: values of its scalars, and which answers are faults.

A refusal is none: most of what is made up is to be refused, with a code that says why.
"""

import schemathesis
from hypothesis import strategies as st
from schemathesis.graphql import nodes

TEXT = st.text(max_size=60)
# A folder that strangers do not see.
CANARY = "hidden-canary"
# What is the server's own fault, or nobody's.
FAULTS = {None, "INTERNAL_SERVER_ERROR", "STORAGE_UNAVAILABLE", "RATE_LIMITED"}

schemathesis.graphql.scalar("DateTime", (st.datetimes().map(lambda at: at.isoformat() + "Z") | TEXT).map(nodes.String))
schemathesis.graphql.scalar("ByteCount", (st.integers(-(2**60), 2**60) | st.integers(0, 99)).map(lambda n: nodes.Int(n)))
schemathesis.graphql.scalar("URL", TEXT.map(nodes.String))
schemathesis.graphql.scalar("JSON", (TEXT.map(nodes.String)) | st.integers(-9, 9).map(nodes.Int))


@schemathesis.check
def no_fault(ctx, response, case):
    """Each error has a code, says what is wrong, and is a refusal."""
    assert response.status_code in (200, 400), f"status {response.status_code}: {response.text}"
    # Texts of this file are among those that are made up; a refusal quotes what was asked for.
    told = CANARY in response.text and CANARY not in str(case.body)
    assert not told, "it tells of what a stranger does not see"
    for error in response.json().get("errors", []):
        code = error.get("extensions", {}).get("code")
        assert code not in FAULTS, f"{code}: {error.get('message')}"
        assert error.get("message"), "an error that says nothing"
