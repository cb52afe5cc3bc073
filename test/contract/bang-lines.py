import cdsw
ws = cdsw.launch_workers(1, 0.2, 0.2, code="""
!echo one &> file; for i in 1 2; do echo loop $i; done
who = "Python"
if True:
    !echo nested $who {1 + 1} end
    for i in range(2):
        !echo deeper {i}
!echo of bash ${BASH_VERSION:+yes} {no_variable}
!exit 7
!cat file
print("still here")
""")
assert not cdsw.await_workers(ws)["failures"]
# prints: loop 1
# prints: loop 2
# prints: nested Python 2 end
# prints: deeper 0
# prints: deeper 1
# prints: of bash yes {no_variable}
# prints: one
# prints: still here
