"""Rule: the small endpoints say what is true, and the counters agree with the sum of the responses' own objects."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

MODEL = "bundled:verify"


def test_version_and_health(http: httpx.Client) -> None:
    assert http.get("/version").json()["version"]
    health = http.get("/health")
    assert health.status_code == 200
    assert health.json() == {"status": "ok", "degraded": False, "drafts": ["draft"], "sequences": 0}


def test_tokens_there_and_back(http: httpx.Client) -> None:
    text = "def add(a, b):\n    return Zürich"
    there = http.post("/tokenize", json={"model": MODEL, "prompt": text, "return_token_strs": True}).json()
    assert there["count"] == len(there["tokens"]) == len(there["token_strs"])
    assert there["max_model_len"] == 2048
    assert http.post("/detokenize", json={"tokens": there["tokens"]}).json() == {"prompt": text}
    chat = http.post("/tokenize", json={"messages": [{"role": "user", "content": "hi"}]}).json()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    assert http.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"] == chat["count"]


def scrape(http: httpx.Client) -> dict[str, float]:
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_counters_are_the_sum_of_the_responses(http: httpx.Client) -> None:
    before = scrape(http)
    bodies = [{"model": MODEL, "prompt": f"def f{i}(x):", "max_tokens": 40, "temperature": 0} for i in range(4)]
    bodies[1]["strategy"] = "alternating"  # whose guesses are awaited, also where the draft has little time
    answers = [http.post("/v1/completions", json=body).json() for body in bodies]
    answers.append(http.post("/v1/completions", json={**bodies[0], "n": 2, "temperature": 1}).json())
    after = scrape(http)
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    spoken = [answer["metrics"]["speculative_decoding"] for answer in answers]

    def total(key: str) -> float:
        return sum(each[key] for each in spoken)

    prefix = "amusd_mp_spec_decode_num_"
    assert grown[f"{prefix}drafts_total"] == total("num_spec_steps") > 0
    assert grown[f"{prefix}draft_tokens_total"] == total("num_draft_tokens") > 0
    assert grown[f"{prefix}accepted_tokens_total"] == total("num_accepted_draft_tokens") > 0
    assert grown[f"{prefix}drafted_tokens_total"] == total("drafted")
    assert grown[f"{prefix}wasted_tokens_total"] == total("wasted")
    assert grown[f"{prefix}rollbacks_total"] == total("rollbacks")
    assert grown["amusd_mp_generation_tokens_total"] == sum(a["usage"]["completion_tokens"] for a in answers)
    for position in range(3):
        steps = sum(sum(each["acceptance_histogram"][position + 1 :]) for each in spoken)
        assert grown.get(f"{prefix}accepted_tokens_per_pos_total {position}", 0.0) == steps
    assert grown["amusd_mp_time_to_first_token_seconds_count"] == 6
    assert (
        grown["amusd_mp_inter_token_latency_seconds_count"] == sum(a["usage"]["completion_tokens"] for a in answers) - 6
    )
    assert after["amusd_mp_num_requests_running"] == 0
    assert after["amusd_mp_degraded"] == 0
    assert after["amusd_mp_up"] == 1
    assert after["amusd_mp_node_state draft draft ready"] == 1
    assert after["amusd_mp_node_state verify verify ready"] == 1


def test_the_page_has_a_policy_of_its_own(http: httpx.Client) -> None:
    answer = http.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    for far in ("https://", "http://", "//cdn"):
        assert far not in answer.text.replace("http://www.w3.org/2000/svg", "")
