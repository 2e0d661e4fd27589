"""A broker that caps the settings of topics, as managed clusters do: by a policy that it asks at each creation."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.broker import Broker, kafka_libraries

MOST_BYTES = 600_000
COMPILE_SECONDS = 60.0

# The words are those of managed clusters; some name no limit, so one of the answers does not either.
POLICY = f"""
import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.CreateTopicPolicy;

public class Caps implements CreateTopicPolicy {{
    public void configure(Map<String, ?> configs) {{}}
    public void close() {{}}
    public void validate(RequestMetadata request) {{
        String bytes = request.configs().get("max.message.bytes");
        if (bytes != null && Integer.parseInt(bytes) > {MOST_BYTES})
            throw new PolicyViolationException("the size of messages is out of bounds");
        if ("-1".equals(request.configs().get("retention.ms")))
            throw new PolicyViolationException("Config property 'retention.ms' with value '-1' exceeded max limit of 604800000.");
        if (request.topic().startsWith("forbidden"))
            throw new PolicyViolationException("Topic names begin with the name of a team.");
    }}
}}
"""


class CappedBroker(Broker):
    """Refuses large messages, records that never expire, and a name."""

    @property
    def _extensions(self) -> tuple[Path, ...]:
        return (self.folder / "policy",)

    def _settings(self, data: Path) -> str:
        policy = self.folder / "policy"
        policy.mkdir()
        (policy / "Caps.java").write_text(POLICY)
        jars = f"{kafka_libraries()}/*"
        subprocess.run(
            ["javac", "-proc:none", "-cp", jars, "-d", str(policy), str(policy / "Caps.java")],
            check=True,
            timeout=COMPILE_SECONDS,
        )
        return super()._settings(data) + "create.topic.policy.class.name=Caps\n"
