"""The gateway under bad luck: killed between any two steps, beside a moody acquirer, and searched for secrets."""
