"""What Ray says when it cannot be used, and what lab makes of that."""

from __future__ import annotations

import pytest

from lab.engines.ray.cluster import _explained

ADDRESS = "ray://head:10001"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "Authentication required but no authorization header provided. Ensure that the token is available",
            f"Ray at {ADDRESS} cannot be used: Authentication required but no authorization header provided. "
            "The cluster needs its token: set RAY_AUTH_MODE=token, ",
        ),
        (
            "Token authentication is enabled but Ray couldn't find an authentication token. Create a token file at",
            f"Ray at {ADDRESS} cannot be used: Token authentication is enabled but Ray couldn't find an "
            "authentication token. The cluster needs its token: set RAY_AUTH_MODE=token, ",
        ),
        (
            "ray client connection timeout",  # without a token, or with a wrong one, from a cluster that wants it
            f"Ray at {ADDRESS} cannot be used: ray client connection timeout. Check the address, and `ray status` on "
            "its head node; if the cluster needs a token, set RAY_AUTH_MODE=token, ",
        ),
    ],
)
def test_a_cluster_that_wants_a_token(said: str, message: str) -> None:
    assert _explained(ADDRESS, ConnectionError(said)).startswith(message)


def test_a_ray_of_this_machine_needs_no_token() -> None:
    assert _explained("local", OSError("no room")) == "Ray cannot be started here: no room"
